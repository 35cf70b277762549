#include "loader/expert_cache.h"

#include <algorithm>
#include <array>
#include <set>
#include <system_error>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t large_page = std::size_t{2} << 20;  // smaller buffers are not aligned for direct reads

// Enough under way to keep a disk busy, and no more, because a read that was begun is in the way of those that turn out
// to be more urgent.
int read_ahead_for(std::size_t slot_bytes) {
  constexpr std::size_t bytes_under_way = std::size_t{32} << 20;
  return static_cast<int>(std::clamp<std::size_t>(bytes_under_way / std::max<std::size_t>(slot_bytes, 1), 3, 32));
}

std::vector<const SafetensorsFile*> files_of(const std::vector<std::vector<StoredExpert>>& layers) {
  std::set<const SafetensorsFile*> files;
  for (const auto& layer : layers)
    for (const StoredExpert& expert : layer)
      for (const StoredLinear* part : expert.parts()) {
        files.insert(part->weight.file);
        if (part->scale) files.insert(part->scale.file);
      }
  return {files.begin(), files.end()};
}

// What a read is for, in DiskRead::tag.
std::uint64_t tag_of(int slot, std::size_t piece) {
  return static_cast<std::uint64_t>(slot) << 32 | piece;
}

}  // namespace

ExpertCache::ExpertCache(const ExpertImages& images, const ExpertCacheOptions& options)
    : shards_(files_of(images.layers()), options.copies),
      images_(images),
      offsets_(expert_offsets(images_.experts())),
      policy_(images_.experts()),
      read_ahead_(options.read_ahead > 0 ? options.read_ahead : read_ahead_for(images_.slot_bytes())) {
  const std::uint64_t slot_bytes = images_.slot_bytes(), total = offsets_.back();
  require(total > 0, Errc::bad_argument, "an expert cache without experts");
  const std::uint64_t least = std::min<std::uint64_t>(total, least_slots);
  const std::uint64_t slots = std::min(total, options.bytes / slot_bytes);
  require(slots >= least, Errc::out_of_memory,
          "an expert cache of {} bytes holds {} experts of {} bytes; at least {} bytes are needed, for {} of them",
          options.bytes, slots, slot_bytes, least * slot_bytes, least);
  read_ahead_ = std::max(1, std::min(read_ahead_, static_cast<int>(slots) - ExpertMlp::max_leases));
  memory_ = Buffer(std::max<std::size_t>(slots * slot_bytes, large_page), "expert cache");
  slots_.resize(slots);
  slot_of_.assign(total, -1);
  arrived_.reserve(slots);
  const std::span<const std::int32_t> counts = images_.experts();
  queue_.reserve(static_cast<std::size_t>(*std::max_element(counts.begin(), counts.end())) + 1);
  const int most = (read_ahead_ + 1) * static_cast<int>(images_.most_pieces());
  reader_ = options.make_reader ? options.make_reader(most, *this) : make_disk_reader(options.io, most, *this);
  stats_ = {.reader = reader_->name(), .slots = slots, .slot_bytes = slot_bytes};
  arranger_ = std::jthread([this] { arrange_arrived(); });
}

ExpertCache::~ExpertCache() {
  {
    const std::lock_guard lock(mutex_);
    next_ = queue_.size();
  }
  reader_.reset();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
}

int& ExpertCache::slot_of(const Key& key) noexcept {
  return slot_of_[offsets_[static_cast<std::size_t>(key.layer)] + static_cast<std::size_t>(key.expert)];
}

std::byte* ExpertCache::memory_of(int slot) noexcept {
  return memory_.data() + static_cast<std::size_t>(slot) * images_.slot_bytes();
}

ExpertCacheStats ExpertCache::stats() const {
  const std::lock_guard lock(mutex_);
  ExpertCacheStats stats = stats_;
  if (reading_ > 0) stats.read_seconds += seconds_since(reading_since_);
  return stats;
}

void ExpertCache::demand(const ExpertDemand& demand) {
  const std::lock_guard lock(mutex_);
  if (shards_.any_suspect()) shards_.check_again();
  ++demands_;
  queue_.clear();
  next_ = 0;
  policy_.pass(demand.layer, demand.rows);
  for (const std::int32_t expert : demand.experts) {
    const Key key{demand.layer, expert};
    policy_.use(demand.layer, expert, demand.first[expert + 1] - demand.first[expert]);
    const int index = slot_of(key);
    Slot* slot = index >= 0 ? &slots_[static_cast<std::size_t>(index)] : nullptr;
    const bool there = slot != nullptr && slot->state == State::ready;
    ++(there ? stats_.hits : stats_.misses);
    if (slot != nullptr && slot->state == State::failed) drop(index);
    if (slot != nullptr) slot->wanted = demands_;
    if (!there) queue_.push_back(key);
  }
  pump();
}

// Begins reads as long as there are experts to read and slots to read them into.
void ExpertCache::pump() noexcept {
  while (reading_ < read_ahead_ && next_ < queue_.size()) {
    if (!begin(queue_[next_], /*urgent=*/false)) return;
    ++next_;
  }
}

// Begins to read an expert unless it is there or on its way; false where no slot can be had.
bool ExpertCache::begin(const Key& key, bool urgent) noexcept {
  if (slot_of(key) >= 0) return true;
  const int index = take_slot(urgent);
  if (index < 0) return false;
  drop(index);
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  const std::span<const FilePiece> pieces = images_.pieces(key.layer, key.expert);
  slot.state = State::reading;
  slot.key = key;
  slot.reads_left = static_cast<int>(pieces.size());
  slot.begun = slot.wanted = demands_;
  slot_of(key) = index;
  if (reading_++ == 0) reading_since_ = Clock::now();
  for (std::size_t piece = 0; piece < pieces.size(); ++piece)
    start_piece(index, piece, *shards_.choose(pieces[piece].file, /*sound=*/false));
  return true;
}

// A slot that may be overwritten: an empty one, else that of the expert worth least among those nobody wants now. Who
// waits for an expert may also have that of one whose turn comes later.
int ExpertCache::take_slot(bool urgent) noexcept {
  int best = -1, last = -1;
  double least = 0;
  for (std::size_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.state == State::empty) return static_cast<int>(index);
    if (slot.state == State::reading || slot.leases > 0) continue;
    if (slot.wanted == demands_) {
      if (last < 0 || slot.key.expert > slots_[static_cast<std::size_t>(last)].key.expert)
        last = static_cast<int>(index);
      continue;
    }
    const double worth = policy_.worth(slot.key.layer, slot.key.expert);
    if (best >= 0 && worth >= least) continue;
    best = static_cast<int>(index);
    least = worth;
  }
  return best < 0 && urgent ? last : best;
}

void ExpertCache::drop(int index) noexcept {
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  if (slot.state != State::empty) slot_of(slot.key) = -1;
  slot = Slot();
}

void ExpertCache::start_piece(int slot, std::size_t piece, ExpertShards::Copy& copy) noexcept {
  const Key& key = slots_[static_cast<std::size_t>(slot)].key;
  const FilePiece& of = images_.pieces(key.layer, key.expert)[piece];
  copy.bytes_under_way += of.bytes;
  reader_->start({.file = &copy.file,
                  .offset = of.offset,
                  .bytes = of.bytes,
                  .least = of.least,
                  .target = memory_of(slot) + of.place,
                  .tag = tag_of(slot, piece)});
}

void ExpertCache::read_done(const DiskRead& read, int error) noexcept {
  std::unique_lock lock(mutex_);
  const int index = static_cast<int>(read.tag >> 32);
  const std::size_t piece = read.tag & 0xffffffffu;
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  const FilePiece& of = images_.pieces(slot.key.layer, slot.key.expert)[piece];
  ExpertShards::Copy& copy = shards_.copy_of(*read.file);
  copy.bytes_under_way -= of.bytes;
  if (error == 0 && !copy.is_as_opened()) error = DiskReader::file_ended;
  if (error != 0) {
    shards_.suspect(copy);
    if (ExpertShards::Copy* other = shards_.choose(of.file, /*sound=*/true)) return start_piece(index, piece, *other);
    if (!slot.failure) slot.failure = failure_of(of, copy, error);
  } else {
    stats_.bytes_read += of.bytes;
  }
  if (--slot.reads_left > 0) return;
  ++stats_.reads;
  if (--reading_ == 0) stats_.read_seconds += seconds_since(reading_since_);
  pump();
  arrived_.push_back(index);
  work_.notify_one();
}

std::exception_ptr ExpertCache::failure_of(const FilePiece& piece, const ExpertShards::Copy& copy,
                                           int error) const noexcept {
  try {
    if (error != DiskReader::file_ended)
      fail(Errc::io, "{}: tensor {} cannot be read: {}", copy.file.path(), piece.tensor->name,
           std::generic_category().message(error));
    fail(Errc::io, "{}: tensor {} cannot be read: the file changed while it was in use, {} bytes before, {} now",
         copy.file.path(), piece.tensor->name, copy.opened.bytes, copy.file.identity().bytes);
  } catch (...) {
    return std::current_exception();
  }
}

// Checks and converts what has arrived, on a thread of its own: the reader goes on meanwhile.
void ExpertCache::arrange_arrived() noexcept {
  for (std::unique_lock lock(mutex_);;) {
    work_.wait(lock, [this] { return stopping_ || !arrived_.empty(); });
    if (stopping_) return;
    const int index = arrived_.front();
    arrived_.erase(arrived_.begin());
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
    changed_.notify_all();
  }
}

ExpertLease ExpertCache::lease(int index) {
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  ++slot.leases;
  return ExpertLease(*this, slot.key.layer, slot.key.expert, slot.weights);
}

std::optional<ExpertLease> ExpertCache::try_acquire(int layer, int expert) {
  const std::lock_guard lock(mutex_);
  const int slot = slot_of({layer, expert});
  if (slot < 0 || slots_[static_cast<std::size_t>(slot)].state != State::ready) return std::nullopt;
  return lease(slot);
}

ExpertLease ExpertCache::acquire(int layer, int expert) {
  const std::span<const std::int32_t> counts = images_.experts();
  require(layer >= 0 && layer < std::ssize(counts) && expert >= 0 && expert < counts[static_cast<std::size_t>(layer)],
          Errc::bad_argument, "layer {} has no expert {}", layer, expert);
  const Key key{layer, expert};
  std::unique_lock lock(mutex_);
  for (;;) {
    const int index = slot_of(key);
    if (index < 0) {
      if (shards_.any_suspect()) shards_.check_again();
      if (begin(key, /*urgent=*/true)) continue;
      const bool coming =
          std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.state == State::reading; });
      require(coming, Errc::bad_argument, "layer {}, expert {}: all {} slots of the cache are held", layer, expert,
              slots_.size());
    } else if (Slot& slot = slots_[static_cast<std::size_t>(index)]; slot.state == State::ready) {
      return lease(index);
    } else if (slot.state == State::failed) {
      if (slot.begun != demands_) {
        drop(index);  // a failure of an earlier pass
        continue;
      }
      const std::exception_ptr failure = slot.failure;
      drop(index);
      next_ = queue_.size();  // the pass ends here
      std::rethrow_exception(failure);
    }
    const Clock::time_point start = Clock::now();
    changed_.wait(lock);
    stats_.wait_seconds += seconds_since(start);
  }
}

void ExpertCache::release(int layer, int expert) noexcept {
  const std::lock_guard lock(mutex_);
  Slot& slot = slots_[static_cast<std::size_t>(slot_of({layer, expert}))];
  --slot.leases;
  slot.wanted = 0;
  pump();
}

}  // namespace millrace
