#include "loader/disk_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "loader/uring_reader.h"
#include "runtime/thread_slice.h"

namespace millrace {
namespace {

// As many reads under way as there are threads, each a blocking call.
class ThreadReader final : public DiskReader {
 public:
  ThreadReader(int most, Client& client) : client_(client), queue_(static_cast<std::size_t>(most)) {
    const int threads = std::min(most, most_threads);
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  }

  ~ThreadReader() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    threads_.clear();
  }

  void start(const DiskRead& read) override {
    {
      const std::lock_guard lock(mutex_);
      queue_[(first_ + waiting_++) % queue_.size()] = read;
    }
    wake_.notify_one();
  }

  const char* name() const noexcept override { return "threads"; }

 private:
  static constexpr int most_threads = 8;

  void work() noexcept {
    take_short_slices();
    for (std::unique_lock lock(mutex_);;) {
      wake_.wait(lock, [this] { return stopping_ || waiting_ > 0; });
      if (stopping_) return;
      const DiskRead read = queue_[first_];
      first_ = (first_ + 1) % queue_.size();
      --waiting_;
      lock.unlock();
      const int error = read_now(read);
      client_.read_done(read, error);
      lock.lock();
    }
  }

  static int read_now(const DiskRead& read) noexcept {
    ReadProgress progress(read);
    for (int error = 0;;) {
      const ssize_t got =
          pread(read.file->descriptor(), progress.target(), progress.bytes(), static_cast<off_t>(progress.offset()));
      if (progress.advance(got < 0 ? -errno : got, error)) return error;
    }
  }

  Client& client_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<DiskRead> queue_;  // a ring
  std::size_t first_ = 0, waiting_ = 0;
  bool stopping_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace

bool ReadProgress::advance(std::int64_t result, int& error) noexcept {
  error = 0;
  if (result == -EINTR || result == -EAGAIN) return false;
  if (result == -EINVAL && direct_) {
    read_.file->go_indirect();
    direct_ = false;
    return false;
  }
  if (result < 0) {
    error = static_cast<int>(-result);
    return true;
  }
  const std::size_t got = done_ + static_cast<std::size_t>(result);
  const std::size_t whole = got / DiskFile::block * DiskFile::block;
  const bool ended = whole == done_;
  done_ = whole;
  if (got < read_.least && !ended) return false;
  if (got < read_.least) error = DiskReader::file_ended;
  read_.file->forget(read_.offset, read_.bytes);
  return true;
}

std::unique_ptr<DiskReader> make_disk_reader(DiskIo io, int most, DiskReader::Client& client) {
  if (io != DiskIo::threads)
    if (auto reader = make_uring_reader(most, client, /*must=*/io == DiskIo::uring)) return reader;
  return std::make_unique<ThreadReader>(most, client);
}

}  // namespace millrace
