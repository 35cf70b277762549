#include "loader/disk_rate.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "loader/disk_reader.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr int most_reads = 4;  // under way: more do not help, fewer leave a disk waiting
constexpr std::size_t sequential_piece = std::size_t{8} << 20;

struct Piece {
  DiskFile* file;
  std::uint64_t offset;
};

// Reads pieces, the next as soon as one is done.
class PieceReads final : public DiskReader::Client {
 public:
  PieceReads(std::vector<Piece> pieces, std::size_t bytes, Buffer& memory)
      : pieces_(std::move(pieces)), bytes_(bytes), memory_(memory), left_(pieces_.size()) {}

  // `client` of `reader` is this. Throws Error(io).
  void run(DiskReader& reader) {
    reader_ = &reader;
    for (std::uint64_t slot = 0; slot < most_reads; ++slot) start_next(slot);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return left_ == 0 || error_ != 0; });
    require(error_ == 0, Errc::io, "measuring the disk: {}",
            error_ == DiskReader::file_ended ? "a file ended early" : std::strerror(error_));
  }

  void read_done(const DiskRead& read, int error) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      --left_;
      if (error != 0) error_ = error;
      changed_.notify_one();
    }
    if (error == 0) start_next(read.tag);
  }

 private:
  void start_next(std::uint64_t slot) {
    const std::size_t next = next_++;
    if (next >= pieces_.size()) return;
    reader_->start({.file = pieces_[next].file,
                    .offset = pieces_[next].offset,
                    .bytes = bytes_,
                    .least = bytes_,
                    .target = memory_.data() + slot * (memory_.bytes() / most_reads),
                    .tag = slot});
  }

  const std::vector<Piece> pieces_;
  const std::size_t bytes_;
  Buffer& memory_;
  DiskReader* reader_ = nullptr;
  std::atomic<std::size_t> next_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t left_;
  int error_ = 0;
};

using Files = std::vector<std::unique_ptr<DiskFile>>;

Files open_all(std::span<const std::filesystem::path> paths) {
  Files files;
  for (const auto& path : paths) files.push_back(std::make_unique<DiskFile>(path));
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a->identity().bytes > b->identity().bytes; });
  return files;
}

std::vector<Piece> pieces_of(const Files& files, std::size_t bytes, std::uint64_t most_bytes) {
  std::vector<Piece> pieces;
  for (const auto& file : files)
    for (std::uint64_t offset = 0; offset + bytes <= file->identity().bytes; offset += bytes) {
      if ((pieces.size() + 1) * bytes > most_bytes) return pieces;
      pieces.push_back({file.get(), offset});
    }
  return pieces;
}

double rate_of(std::vector<Piece> pieces, std::size_t bytes, Buffer& memory, std::string& how) {
  if (pieces.empty()) return 0;
  const double total = static_cast<double>(pieces.size() * bytes);
  DiskFile& first = *pieces[0].file;
  PieceReads reads(std::move(pieces), bytes, memory);
  if (!first.direct()) first.forget(0, first.identity().bytes);  // else memory would answer
  const auto reader = make_disk_reader(DiskIo::automatic, most_reads, reads);
  const auto start = std::chrono::steady_clock::now();
  reads.run(*reader);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  how = std::string(reader->name()) + (first.direct() ? "" : ", through the page cache");
  return total / seconds.count();
}

}  // namespace

std::size_t DiskRate::bytes_for(std::size_t largest) noexcept {
  return most_reads * round_up(std::max<std::size_t>(largest, 1), DiskFile::block);
}

DiskRate::DiskRate(std::size_t largest) : memory_(bytes_for(largest), "reads to measure the disk") {
  std::memset(memory_.data(), 1, memory_.bytes());
}

double DiskRate::sequential(std::span<const std::filesystem::path> files, std::uint64_t most_bytes) {
  const Files opened = open_all(files);
  const std::size_t bytes = std::min(sequential_piece, memory_.bytes() / most_reads);
  return rate_of(pieces_of(opened, bytes, most_bytes), bytes, memory_, how_);
}

double DiskRate::random(std::span<const std::filesystem::path> files, std::size_t bytes, std::uint64_t most_bytes,
                        std::uint64_t seed) {
  bytes = std::min(round_up(std::max<std::size_t>(bytes, 1), DiskFile::block), memory_.bytes() / most_reads);
  const Files opened = open_all(files);
  std::vector<Piece> pieces = pieces_of(opened, bytes, std::uint64_t{1} << 62);
  const std::size_t wanted = std::min<std::size_t>(pieces.size(), most_bytes / bytes);
  for (std::size_t i = 0; i < wanted; ++i) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    std::swap(pieces[i], pieces[i + (seed >> 33) % (pieces.size() - i)]);
  }
  pieces.resize(wanted);
  return rate_of(std::move(pieces), bytes, memory_, how_);
}

void drop_cached(const std::filesystem::path& file) noexcept {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  ::close(descriptor);
}

}  // namespace millrace
