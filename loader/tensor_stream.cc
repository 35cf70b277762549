#include "loader/tensor_stream.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <system_error>
#include <utility>

#include "loader/disk_reader.h"
#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/parallel.h"

namespace millrace {
namespace {

constexpr std::size_t most_kept_view = std::size_t{2} << 20;
constexpr std::size_t most_piece = std::size_t{4} << 20;
constexpr std::size_t most_reads = 64;  // under way: tensors may be small, and then many of them keep a disk busy

// Each thread copies whole large pages: two that first touch the same one would both have it zeroed.
constexpr std::size_t copy_grain = std::size_t{2} << 20;

}  // namespace

class TensorStream::Worker final : private DiskReader::Client {
 public:
  Worker(std::vector<TensorRange> order, const Parallel* parallel, std::size_t buffer_bytes)
      : order_(std::move(order)),
        parallel_(parallel),
        memory_(std::max(buffer_bytes, least_buffer_bytes) / most_piece * most_piece, "reading ahead") {
    std::erase_if(order_, [](const TensorRange& range) { return range.count == 0; });
    reader_ = make_disk_reader(DiskIo::automatic, most_reads, *this);
    read_ahead();
  }

  void take(const StoredTensor& tensor, std::uint64_t begin, std::span<std::byte> target) {
    if (target.empty()) return;
    if (!is_next(tensor, begin, target.size())) return mapped_bytes().copy(tensor, begin, target);
    for (const std::size_t range = taking_.range; taking_.range == range;) {
      const Piece piece = piece_at(taking_);
      const std::size_t read = taking_.count % most_reads;
      wait(read, tensor);
      copy_bytes(memory_.data() + reads_[read].begin % memory_.bytes() + piece.skipped, target.data() + taking_.at,
                 piece.bytes);
      advance(taking_);
      read_ahead();
    }
  }

  std::span<const std::byte> view(const StoredTensor& tensor, std::uint64_t begin, std::uint64_t count) {
    const auto bytes = static_cast<std::size_t>(count);
    Buffer& memory = room_for(bytes, tensor.entry->name.c_str());
    take(tensor, begin, {memory.data(), bytes});
    return {memory.data(), bytes};
  }

  void drop_views() noexcept {
    std::erase_if(views_, [](const Buffer& view) { return view.bytes() > most_kept_view; });
    given_views_ = 0;
  }

 private:
  // A read that has been begun and not yet taken.
  struct Read {
    std::uint64_t begin = 0, end = 0;  // of its memory, counted on through all rounds of the buffer
    bool done = false;
    int error = 0;
  };
  // The next piece to read, or to take.
  struct Cursor {
    std::size_t range = 0;
    std::uint64_t at = 0;     // bytes of the range before it
    std::uint64_t count = 0;  // pieces before it
  };
  // A part of a range as it lies in the buffer, behind what had to be read before it.
  struct Piece {
    std::uint64_t offset;  // of the first byte read
    std::size_t skipped, bytes;

    std::size_t least() const noexcept { return skipped + bytes; }
    std::size_t room() const noexcept { return round_up(least(), DiskFile::block); }
  };

  // Freed in turns with what stays, small views would leave the heap full of holes.
  Buffer& room_for(std::size_t bytes, const char* what) {
    const auto free = views_.begin() + static_cast<std::ptrdiff_t>(given_views_);
    const auto found = std::find_if(free, views_.end(), [bytes](const Buffer& view) { return view.bytes() >= bytes; });
    const std::size_t place = static_cast<std::size_t>(found - views_.begin());
    if (found == views_.end()) views_.emplace_back(bytes, what);
    if (place != given_views_) std::swap(views_[place], views_[given_views_]);
    return views_[given_views_++];
  }

  bool is_next(const StoredTensor& tensor, std::uint64_t begin, std::uint64_t count) const noexcept {
    if (taking_.range >= order_.size()) return false;
    const TensorRange& next = order_[taking_.range];
    return next.tensor.entry == tensor.entry && next.begin == begin && next.count == count;
  }

  Piece piece_at(const Cursor& cursor) const noexcept {
    const TensorRange& range = order_[cursor.range];
    const std::uint64_t begin = range.tensor.entry->offset + range.begin + cursor.at;
    const auto skipped = static_cast<std::size_t>(begin % DiskFile::block);
    const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(most_piece - skipped, range.count - cursor.at));
    return {.offset = begin - skipped, .skipped = skipped, .bytes = bytes};
  }

  void advance(Cursor& cursor) const noexcept {
    cursor.at += piece_at(cursor).bytes;
    ++cursor.count;
    if (cursor.at < order_[cursor.range].count) return;
    ++cursor.range;
    cursor.at = 0;
  }

  DiskFile& file_of(const TensorRange& range) {
    std::unique_ptr<DiskFile>& file = files_[range.tensor.file];
    if (file == nullptr) file = std::make_unique<DiskFile>(range.tensor.file->path());
    return *file;
  }

  // Where the next read of so many bytes lies, in one run, behind those before it.
  std::uint64_t place_of(std::size_t bytes) const noexcept {
    const std::uint64_t before = reading_.count == taking_.count ? 0 : reads_[(reading_.count - 1) % most_reads].end;
    return before % memory_.bytes() + bytes > memory_.bytes() ? round_up(before, memory_.bytes()) : before;
  }

  void read_ahead() {
    for (; reading_.range < order_.size() && reading_.count < taking_.count + most_reads; advance(reading_)) {
      const Piece piece = piece_at(reading_);
      const std::uint64_t begin = place_of(piece.room());
      if (reading_.count > taking_.count &&
          begin + piece.room() > reads_[taking_.count % most_reads].begin + memory_.bytes())
        return;
      const std::size_t read = reading_.count % most_reads;
      reads_[read] = {.begin = begin, .end = begin + piece.room()};
      reader_->start({.file = &file_of(order_[reading_.range]),
                      .offset = piece.offset,
                      .bytes = piece.room(),
                      .least = piece.least(),
                      .target = memory_.data() + begin % memory_.bytes(),
                      .tag = read});
    }
  }

  void read_done(const DiskRead& read, int error) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      reads_[read.tag].done = true;
      reads_[read.tag].error = error;
    }
    arrived_.notify_one();
  }

  void wait(std::size_t read, const StoredTensor& tensor) {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return reads_[read].done; });
    const int error = reads_[read].error;
    if (error == 0) return;
    fail(Errc::io, "{}: cannot be read: {} (tensor {})", tensor.file->path(),
         error == DiskReader::file_ended ? "the file ends within it" : std::generic_category().message(error),
         tensor.entry->name);
  }

  void copy_bytes(const std::byte* source, std::byte* target, std::size_t bytes) const {
    if (parallel_ == nullptr || bytes < 2 * copy_grain)
      std::memcpy(target, source, bytes);
    else
      parallel_->for_range(static_cast<std::int64_t>(bytes), copy_grain,
                           [&](std::int64_t begin, std::int64_t end, int) {
                             std::memcpy(target + begin, source + begin, static_cast<std::size_t>(end - begin));
                           });
  }

  std::vector<TensorRange> order_;
  const Parallel* parallel_;
  std::map<const SafetensorsFile*, std::unique_ptr<DiskFile>> files_;
  Buffer memory_;
  Cursor reading_, taking_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::array<Read, most_reads> reads_;
  std::deque<Buffer> views_;
  std::size_t given_views_ = 0;         // the first of them; the others may be given out again
  std::unique_ptr<DiskReader> reader_;  // last, for its threads use the others
};

TensorStream::TensorStream(std::vector<TensorRange> order, const Parallel* parallel, std::size_t buffer_bytes)
    : worker_(std::make_unique<Worker>(std::move(order), parallel, buffer_bytes)) {}
TensorStream::~TensorStream() = default;

std::span<const std::byte> TensorStream::view(const StoredTensor& tensor, std::uint64_t begin,
                                              std::uint64_t count) const {
  return worker_->view(tensor, begin, count);
}

void TensorStream::copy(const StoredTensor& tensor, std::uint64_t begin, std::span<std::byte> target) const {
  worker_->take(tensor, begin, target);
}

void TensorStream::drop_views() noexcept {
  worker_->drop_views();
}

}  // namespace millrace
