#include "loader/uring_reader.h"

#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/error.h"
#include "runtime/thread_slice.h"

namespace millrace {
namespace {

// One thread owns the ring; others leave their reads in a list and wake it through an eventfd that the ring watches.
class UringReader final : public DiskReader {
 public:
  UringReader(const io_uring& ring, int wake, int most, Client& client)
      : client_(client), ring_(ring), wake_(wake), slots_(static_cast<std::size_t>(most)) {
    waiting_.reserve(slots_.size());
    begun_.reserve(slots_.size());
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) free_.push_back(slot);
    thread_ = std::jthread([this] { work(); });
  }

  ~UringReader() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_up();
    thread_.join();
    io_uring_queue_exit(&ring_);
    close(wake_);
  }

  void start(const DiskRead& read) override {
    // A client that begins the next reads before it works on what has come must not have them wait for that.
    if (std::this_thread::get_id() == thread_.get_id()) {
      begin(read);
      io_uring_submit(&ring_);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(read);
    }
    wake_up();
  }

  const char* name() const noexcept override { return "io_uring"; }

 private:
  static constexpr std::uint64_t wake_tag = ~std::uint64_t{0};

  void wake_up() const noexcept { eventfd_write(wake_, 1); }

  void work() noexcept {
    take_short_slices();
    watch();
    while (take_waiting() || free_.size() < slots_.size()) {
      io_uring_submit_and_wait(&ring_, 1);  // whatever could not be submitted stays in the ring for the next time
      io_uring_cqe* done = nullptr;
      while (io_uring_peek_cqe(&ring_, &done) == 0) {
        const std::uint64_t tag = done->user_data;
        const std::int32_t result = done->res;
        io_uring_cqe_seen(&ring_, done);
        if (tag == wake_tag)
          watch();
        else
          advance(static_cast<std::size_t>(tag), result);
      }
    }
  }

  void watch() noexcept {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    io_uring_prep_read(entry, wake_, &wakes_, sizeof wakes_, 0);
    entry->user_data = wake_tag;
  }

  // Begins what start() left; false once the reader is to stop.
  bool take_waiting() noexcept {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return false;
      begun_.swap(waiting_);
    }
    for (const DiskRead& read : begun_) begin(read);
    begun_.clear();
    return true;
  }

  void begin(const DiskRead& read) noexcept {
    const std::size_t slot = free_.back();
    free_.pop_back();
    slots_[slot] = ReadProgress(read);
    submit(slot);
  }

  void submit(std::size_t slot) noexcept {
    const ReadProgress& progress = slots_[slot];
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    io_uring_prep_read(entry, progress.read().file->descriptor(), progress.target(),
                       static_cast<unsigned>(std::min(progress.bytes(), most_bytes)), progress.offset());
    entry->user_data = slot;
    // Pages that have to be made first would keep all other reads waiting here, so another thread of the kernel makes
    // them. Otherwise that thread would have to be woken for nothing.
    if (progress.read().fresh) io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
  }

  void advance(std::size_t slot, std::int32_t result) noexcept {
    int error = 0;
    if (!slots_[slot].advance(result, error)) return submit(slot);
    const DiskRead read = slots_[slot].read();
    free_.push_back(slot);
    client_.read_done(read, error);
  }

  static constexpr std::size_t most_bytes = std::size_t{1} << 30;  // of one entry of the ring

  Client& client_;
  io_uring ring_;
  int wake_;
  std::uint64_t wakes_ = 0;
  std::vector<ReadProgress> slots_;
  std::vector<std::size_t> free_;
  std::mutex mutex_;
  std::vector<DiskRead> waiting_, begun_;
  bool stopping_ = false;
  std::jthread thread_;
};

}  // namespace

std::unique_ptr<DiskReader> make_uring_reader(int most, DiskReader::Client& client, bool must) {
  io_uring ring{};
  const int refused = io_uring_queue_init(static_cast<unsigned>(most) + 1, &ring, 0);
  const int wake = refused == 0 ? eventfd(0, EFD_CLOEXEC) : -1;
  if (wake >= 0) return std::make_unique<UringReader>(ring, wake, most, client);
  const int error = refused != 0 ? -refused : errno;
  if (refused == 0) io_uring_queue_exit(&ring);
  require(!must, Errc::unsupported, "this system refuses io_uring: {}", std::generic_category().message(error));
  return nullptr;
}

}  // namespace millrace
