#include "loader/expert_cache.h"

#include <algorithm>
#include <array>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t large_page = std::size_t{2} << 20;  // smaller buffers are not aligned for direct reads

// Enough under way to keep each disk busy, and no more: a read that was begun is in the way of those that turn out to
// be more urgent, and a disk may report none as done before all are, so that nothing could be multiplied meanwhile.
int read_ahead_for(std::size_t slot_bytes, std::size_t disks) {
  constexpr std::size_t bytes_under_way = std::size_t{4} << 20;
  const std::size_t experts = bytes_under_way / std::max<std::size_t>(slot_bytes, 1) + 1;
  return static_cast<int>(std::min<std::size_t>(experts * disks, 32));
}

std::size_t most_experts(const ExpertImages& images) {
  const std::span<const std::int32_t> counts = images.experts();
  return counts.empty() ? 0 : static_cast<std::size_t>(*std::max_element(counts.begin(), counts.end()));
}

// Of what a hint announced, so much is read at a time, and so often: enough to keep a disk busy, and what a demand has
// to wait for at most.
constexpr std::size_t hint_bytes = std::size_t{1} << 20;
constexpr int most_hint_reads = 3;

}  // namespace

ExpertCache::ExpertCache(const ExpertImages& images, const ExpertCacheOptions& options)
    : shards_(files_of(images.layers()), options.copies),
      images_(images),
      offsets_(expert_offsets(images_.experts())),
      policy_(images_.experts()),
      read_ahead_(options.read_ahead > 0 ? options.read_ahead
                                         : read_ahead_for(images_.slot_bytes(), 1 + options.copies.size())),
      overlap_(options.overlap),
      hints_(most_experts(images_)) {
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
  touched_.resize(slots);
  slot_of_.assign(total, -1);
  arrived_.reserve(slots);
  queue_.reserve(most_experts(images_) + 1);
  // Beside what is demanded, someone may wait for one more, and what a hint began be demanded.
  const int most = (read_ahead_ + 1 + most_hint_reads) * static_cast<int>(images_.most_pieces()) + most_hint_reads;
  reader_ = options.make_reader ? options.make_reader(most, *this) : make_disk_reader(options.io, most, *this);
  stats_ = {.reader = reader_->name(), .slots = slots, .slot_bytes = slot_bytes, .expert_bytes = images_.read_bytes()};
  arranger_ = std::jthread([this] { arrange_arrived(); });
}

ExpertCache::~ExpertCache() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    next_ = queue_.size();
    hints_.clear();
    hinted_slot_ = -1;
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
  if (reads_ > 0) stats.read_seconds += seconds_since(reading_since_);
  return stats;
}

void ExpertCache::demand(const ExpertDemand& demand) {
  std::unique_lock lock(mutex_);
  check_files_again();
  ++demands_;
  queue_.clear();
  next_ = 0;
  policy_.pass(demand.layer, demand.rows);
  settle_hints(demand);
  for (const std::int32_t expert : demand.experts) {
    const Key key{demand.layer, expert};
    policy_.use(demand.layer, expert, demand.first[expert + 1] - demand.first[expert]);
    const int index = slot_of(key);
    Slot* slot = index >= 0 ? &slots_[static_cast<std::size_t>(index)] : nullptr;
    const bool hinted = slot != nullptr && slot->purpose == Purpose::hint;
    const bool there = slot != nullptr && slot->state == State::ready;
    ++(there && !hinted ? stats_.hits : stats_.misses);
    if (slot != nullptr && slot->state == State::failed) drop(index);
    if (slot != nullptr) slot->wanted = demands_;
    if (slot != nullptr && slot->purpose != Purpose::demand) adopt(index);
    if (!there) queue_.push_back(key);
  }
  pump();
  if (!overlap_)
    changed_.wait(lock, [this] {
      return std::none_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.state == State::reading; });
    });
}

// A pass has come to a layer: what hints brought is now demanded, or they were wrong.
void ExpertCache::settle_hints(const ExpertDemand& demand) noexcept {
  hints_.clear();
  for (std::size_t index = 0; index < slots_.size(); ++index) {
    Slot& slot = slots_[index];
    if (slot.state == State::empty || slot.purpose != Purpose::hint) continue;
    const bool wanted =
        slot.key.layer == demand.layer && demand.first[slot.key.expert + 1] > demand.first[slot.key.expert];
    hints_.came_true(wanted);
    if (wanted) {
      ++stats_.hints_used;
      continue;
    }
    slot.purpose = Purpose::none;
    if (static_cast<int>(index) == hinted_slot_) hinted_slot_ = -1;
    if (is_paused(slot)) drop(static_cast<int>(index));
  }
}

void ExpertCache::hint(const ExpertHint& hint) {
  if (!overlap_) return;
  const std::lock_guard lock(mutex_);
  hints_.take(hint.layer, hint.experts);
  // Those that are there already had to be read again, if they left now; but what is demanded needs room first.
  const bool all_fit = queue_.size() - next_ + hint.experts.size() + ExpertMlp::max_leases <= slots_.size();
  for (const std::int32_t expert : hint.experts)
    if (const int index = slot_of({hint.layer, expert}); all_fit && index >= 0)
      slots_[static_cast<std::size_t>(index)].wanted = demands_;
  pump();
}

// Begins reads as long as there are experts to read and slots to read them into.
void ExpertCache::pump() noexcept {
  while (reading_ < read_ahead_ && next_ < queue_.size()) {
    if (!begin(queue_[next_], /*urgent=*/false)) return;
    ++next_;
  }
  pump_hints();
}

// What hints announced comes after all that is demanded.
void ExpertCache::pump_hints() noexcept {
  while (next_ == queue_.size() && reading_ == 0 && hint_reads_ < most_hint_reads) {
    if (hinted_slot_ < 0 && !begin_hint()) return;
    begin_part(hinted_slot_, hint_bytes);
    if (all_begun(slots_[static_cast<std::size_t>(hinted_slot_)])) hinted_slot_ = -1;
  }
}

// Finds a slot for the next expert that hints announced; false if there is none of either.
bool ExpertCache::begin_hint() noexcept {
  while (!hints_.empty() && slot_of({hints_.layer(), hints_.next()}) >= 0) hints_.pop();
  if (hints_.empty()) return false;
  const int index = take_slot(/*urgent=*/false);
  if (index < 0) return false;
  occupy(index, {hints_.layer(), hints_.next()}, Purpose::hint);
  hints_.pop();
  hinted_slot_ = index;
  ++stats_.hinted;
  return true;
}

// Begins to read an expert unless it is there or on its way; false where no slot can be had.
bool ExpertCache::begin(const Key& key, bool urgent) noexcept {
  if (slot_of(key) >= 0) return true;
  const int index = take_slot(urgent);
  if (index < 0) return false;
  occupy(index, key, Purpose::demand);
  ++reading_;
  begin_rest(index);
  return true;
}

void ExpertCache::occupy(int index, const Key& key, Purpose purpose) noexcept {
  drop(index);
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  slot.state = State::reading;
  slot.purpose = purpose;
  slot.key = key;
  slot.begun = demands_;
  slot.wanted = purpose == Purpose::demand ? demands_ : 0;
  slot_of(key) = index;
}

// What was read for a hint is demanded.
void ExpertCache::adopt(int index) noexcept {
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  slot.purpose = Purpose::demand;
  slot.adopted = true;
  slot.begun = demands_;
  if (index == hinted_slot_) hinted_slot_ = -1;
  if (slot.state != State::reading || (slot.reads == 0 && all_begun(slot))) return;
  ++reading_;
  begin_rest(index);
}

void ExpertCache::begin_rest(int index) noexcept {
  while (!all_begun(slots_[static_cast<std::size_t>(index)])) begin_part(index, SIZE_MAX);
}

// A slot that may be overwritten: an empty one, else that of the expert worth least among those nobody wants now and no
// hint brought. Who waits for an expert may also have one of these.
int ExpertCache::take_slot(bool urgent) noexcept {
  int best = -1, last = -1;
  double least = 0;
  for (std::size_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.state == State::empty) return static_cast<int>(index);
    if (slot.leases > 0 || (slot.state == State::reading && !is_paused(slot))) continue;
    if (slot.wanted == demands_ || slot.purpose == Purpose::hint) {
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
  if (index == hinted_slot_) hinted_slot_ = -1;
  slot = Slot();
}

std::span<const FilePiece> ExpertCache::pieces_of(const Slot& slot) const noexcept {
  return images_.pieces(slot.key.layer, slot.key.expert);
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
      check_files_again();
      if (begin(key, /*urgent=*/true)) continue;
      const bool coming =
          std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.state == State::reading; });
      require(coming, Errc::bad_argument, "layer {}, expert {}: all {} slots of the cache are held", layer, expert,
              slots_.size());
    } else if (Slot& slot = slots_[static_cast<std::size_t>(index)]; slot.state == State::ready) {
      return lease(index);
    } else if (slot.state == State::reading && slot.purpose != Purpose::demand) {
      adopt(index);
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
