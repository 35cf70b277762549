// The reads of an ExpertCache: begun, done, checked, converted.
#include <algorithm>
#include <cstring>
#include <system_error>

#include "loader/expert_cache.h"
#include "runtime/error.h"

namespace millrace {

// What a read is for, in DiskRead::tag, and what it reads.
struct ExpertCache::Part {
  int slot = 0;
  bool hint = false;
  std::size_t piece = 0;
  std::uint64_t offset = 0;  // in the file
  std::size_t bytes = 0, least = 0;
  std::byte* target = nullptr;

  Part() = default;
  explicit Part(const DiskRead& read)
      : slot(static_cast<int>(read.tag >> 32)),
        hint((read.tag >> 31 & 1) != 0),
        piece(read.tag & 0x7fffffffu),
        offset(read.offset),
        bytes(read.bytes),
        least(read.least),
        target(read.target) {}
  std::uint64_t tag() const noexcept {
    return static_cast<std::uint64_t>(slot) << 32 | static_cast<std::uint64_t>(hint) << 31 | piece;
  }
};

// Begins to read what follows in the slot's present piece.
void ExpertCache::begin_part(int index, std::size_t most_bytes) noexcept {
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  const FilePiece& piece = pieces_of(slot)[slot.piece];
  Part part;
  part.slot = index;
  part.hint = slot.purpose == Purpose::hint;
  part.piece = slot.piece;
  part.offset = piece.offset + slot.done;
  part.bytes = std::min(most_bytes, piece.bytes - slot.done);
  part.least = std::min(part.bytes, piece.least - slot.done);
  part.target = memory_of(index) + piece.place + slot.done;
  slot.done += part.bytes;
  if (slot.done == piece.bytes) {
    ++slot.piece;
    slot.done = 0;
  }
  ++slot.reads;
  hint_reads_ += part.hint;
  if (reads_++ == 0) reading_since_ = Clock::now();
  start_read(part, *shards_.choose(piece.file, /*sound=*/false));
}

void ExpertCache::start_read(const Part& part, ExpertShards::Copy& copy) noexcept {
  copy.bytes_under_way += part.bytes;
  reader_->start({.file = &copy.file,
                  .offset = part.offset,
                  .bytes = part.bytes,
                  .least = part.least,
                  .target = part.target,
                  .tag = part.tag(),
                  .fresh = !touched_[static_cast<std::size_t>(part.slot)]});
}

void ExpertCache::read_done(const DiskRead& read, int error) noexcept {
  const std::lock_guard lock(mutex_);
  const Part part(read);
  Slot& slot = slots_[static_cast<std::size_t>(part.slot)];
  const FilePiece& piece = pieces_of(slot)[part.piece];
  ExpertShards::Copy& copy = shards_.copy_of(*read.file);
  copy.bytes_under_way -= part.bytes;
  if (error == 0 && !copy.is_as_opened()) error = DiskReader::file_ended;
  if (error != 0) {
    shards_.suspect(copy);
    ExpertShards::Copy* other = closing_ ? nullptr : shards_.choose(piece.file, /*sound=*/true);
    if (other != nullptr) return start_read(part, *other);
    if (!slot.failure) slot.failure = failure_of(piece, copy, error);
  } else {
    stats_.bytes_read += part.bytes;
  }
  hint_reads_ -= part.hint;
  if (--reads_ == 0) stats_.read_seconds += seconds_since(reading_since_);
  if (--slot.reads == 0 && (slot.failure || slot.purpose == Purpose::none || all_begun(slot))) finish(part.slot);
  pump();
}

// Nothing of an expert is being read any more.
void ExpertCache::finish(int index) noexcept {
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  if (index == hinted_slot_) hinted_slot_ = -1;
  if (slot.purpose != Purpose::demand && (slot.failure || !all_begun(slot))) {
    drop(index);
    changed_.notify_all();
    return;
  }
  // What failed before it was demanded is read once more.
  if (slot.failure && slot.adopted && !closing_) {
    slot.failure = nullptr;
    slot.adopted = false;
    slot.piece = 0;
    slot.done = 0;
    return begin_rest(index);
  }
  if (slot.purpose == Purpose::demand) --reading_;
  if (!slot.failure) touched_[static_cast<std::size_t>(index)] = true;
  ++stats_.reads;
  arrived_.push_back(index);
  work_.notify_one();
}

std::exception_ptr ExpertCache::failure_of(const FilePiece& piece, const ExpertShards::Copy& copy,
                                           int error) const noexcept {
  try {
    if (error != DiskReader::file_ended)
      fail(Errc::io, "{}: tensor {} cannot be read: {}", copy.file.path(), piece.tensor->name,
           std::generic_category().message(error));
    const std::uint64_t before = copy.opened.bytes, now = copy.file.identity().bytes;
    fail(Errc::io, "{}: tensor {} cannot be read: the file changed while it was in use{}", copy.file.path(),
         piece.tensor->name,
         now != before ? fmt::format(", {} bytes before, {} now", before, now)
                       : "; what is there now was written later, and is used if it holds the same");
  } catch (...) {
    return std::current_exception();
  }
}

void ExpertCache::check_files_again() {
  if (!shards_.any_suspect()) return;
  shards_.check_again([this](const SafetensorsFile* file, const SafetensorsFile& now) { return same_data(file, now); });
}

// Whether a file that is there now says the same as some of the experts in memory, which came from `file`: experts of
// two models would give results of neither.
bool ExpertCache::same_data(const SafetensorsFile* file, const SafetensorsFile& now) {
  constexpr int most_compared = 8;
  int compared = 0;
  std::vector<std::byte> data;
  for (std::size_t index = 0; index < slots_.size() && compared < most_compared; ++index) {
    if (slots_[index].state != State::ready) continue;
    for (const FilePiece& piece : images_.pieces(slots_[index].key.layer, slots_[index].key.expert)) {
      if (piece.file != file) continue;
      data.resize(piece.least);
      now.file().read(piece.offset, data);
      if (std::memcmp(data.data(), memory_of(static_cast<int>(index)) + piece.place, piece.least) != 0) return false;
      ++compared;
    }
  }
  return true;
}

// Checks and converts what has arrived, on a thread of its own: the reader goes on meanwhile.
void ExpertCache::arrange_arrived() noexcept {
  for (std::unique_lock lock(mutex_);;) {
    work_.wait(lock, [this] { return stopping_ || !arrived_.empty(); });
    if (stopping_) return;
    const int index = next_arrived();
    Slot& slot = slots_[static_cast<std::size_t>(index)];
    if (!slot.failure) {
      lock.unlock();
      ExpertWeights weights;
      std::exception_ptr failure;
      try {
        weights = images_.arrange(slot.key.layer, slot.key.expert, memory_of(index));
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      slot.weights = weights;
      slot.failure = failure;
    }
    slot.state = slot.failure ? State::failed : State::ready;
    if (slot.failure && slot.purpose != Purpose::demand) drop(index);
    changed_.notify_all();
  }
}

// Takes what is demanded first.
int ExpertCache::next_arrived() noexcept {
  const auto demanded = std::find_if(arrived_.begin(), arrived_.end(), [this](int index) {
    return slots_[static_cast<std::size_t>(index)].purpose == Purpose::demand;
  });
  const auto next = demanded == arrived_.end() ? arrived_.begin() : demanded;
  const int index = *next;
  arrived_.erase(next);
  return index;
}

}  // namespace millrace
