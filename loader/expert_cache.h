// ExpertCache: the experts of a checkpoint, read from its files when they are wanted, into slots of memory that keep as
// many as a budget allows. Results do not depend on what it holds.
// Reads go on in the background: what a pass demands first, in its order, so that the operator can multiply the experts
// that are there while the others arrive; then, in small parts, what hints announce. Owns the slots, the reader with
// its threads, and all locks; demand(), hint(), acquire(), try_acquire() and the destruction of leases are for the
// computing thread, stats() for any.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "loader/disk_reader.h"
#include "loader/expert_cache_stats.h"
#include "loader/expert_hints.h"
#include "loader/expert_image.h"
#include "loader/expert_policy.h"
#include "loader/expert_shards.h"
#include "ops/expert_mlp.h"
#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "runtime/expert_source.h"

namespace millrace {

struct ExpertCacheOptions {
  std::uint64_t bytes = 0;  // of the slots
  DiskIo io = DiskIo::automatic;
  std::vector<std::filesystem::path> copies;  // folders with copies of the files, on other disks
  int read_ahead = 0;                         // experts read at a time; 0 = by their size
  bool overlap = true;  // read on while experts are multiplied, and what hints announce; false for comparison
  // For tests: what reads in place of make_disk_reader().
  std::function<std::unique_ptr<DiskReader>(int most, DiskReader::Client& client)> make_reader;
};

class ExpertCache final : public ExpertSource, private DiskReader::Client {
 public:
  // As many experts as are held at a time, and some to read meanwhile.
  static constexpr std::uint64_t least_slots = ExpertMlp::max_leases + 2;

  // `images` must outlive this. Throws Error(out_of_memory), telling how much is needed at least, for a budget of fewer
  // than least_slots experts, and what ExpertShards and make_disk_reader throw.
  ExpertCache(const ExpertImages& images, const ExpertCacheOptions& options);
  ~ExpertCache() override;

  std::uint64_t expert_bytes(int layer) const override { return images_.expert_bytes(layer); }
  void demand(const ExpertDemand& demand) override;
  void hint(const ExpertHint& hint) override;
  std::optional<ExpertLease> try_acquire(int layer, int expert) override;
  // Throws Error(io) naming file and tensor; the next call for that expert tries again.
  ExpertLease acquire(int layer, int expert) override;

  ExpertCacheStats stats() const;

 private:
  enum class State { empty, reading, ready, failed };
  enum class Purpose { demand, hint, none };  // what a slot was read for; none: a hint that did not come true
  struct Key {
    int layer = -1, expert = -1;
    bool operator==(const Key&) const = default;
  };
  struct Slot {
    State state = State::empty;
    Purpose purpose = Purpose::demand;
    Key key;
    int leases = 0;
    int reads = 0;             // under way
    std::size_t piece = 0;     // where those that are not yet begun begin: at a piece
    std::size_t done = 0;      // and behind so many bytes of it
    bool adopted = false;      // begun for a hint, then demanded
    std::uint64_t begun = 0;   // the demand that had it read
    std::uint64_t wanted = 0;  // the demand that still wants it
    std::exception_ptr failure;
    ExpertWeights weights;
  };
  struct Part;

  int& slot_of(const Key& key) noexcept;
  std::byte* memory_of(int slot) noexcept;
  std::span<const FilePiece> pieces_of(const Slot& slot) const noexcept;
  bool all_begun(const Slot& slot) const noexcept { return slot.piece == pieces_of(slot).size(); }
  // Begun for a hint, and then other reads came first.
  bool is_paused(const Slot& slot) const noexcept {
    return slot.state == State::reading && slot.reads == 0 && !all_begun(slot);
  }
  ExpertLease lease(int slot);
  void release(int layer, int expert) noexcept override;
  void pump() noexcept;
  void pump_hints() noexcept;
  bool begin(const Key& key, bool urgent) noexcept;
  bool begin_hint() noexcept;
  void occupy(int slot, const Key& key, Purpose purpose) noexcept;
  void begin_rest(int slot) noexcept;
  void begin_part(int slot, std::size_t most_bytes) noexcept;
  void adopt(int slot) noexcept;
  void settle_hints(const ExpertDemand& demand) noexcept;
  int take_slot(bool urgent) noexcept;
  void drop(int slot) noexcept;
  void check_files_again();
  bool same_data(const SafetensorsFile* file, const SafetensorsFile& now);
  void start_read(const Part& part, ExpertShards::Copy& copy) noexcept;
  void read_done(const DiskRead& read, int error) noexcept override;
  void finish(int slot) noexcept;
  std::exception_ptr failure_of(const FilePiece& piece, const ExpertShards::Copy& copy, int error) const noexcept;
  void arrange_arrived() noexcept;
  int next_arrived() noexcept;

  ExpertShards shards_;
  const ExpertImages& images_;
  const std::vector<std::size_t> offsets_;
  FrequencyPolicy policy_;
  int read_ahead_;
  const bool overlap_;
  Buffer memory_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // a slot became ready or failed
  std::condition_variable work_;     // for the arranging thread
  std::vector<Slot> slots_;
  std::vector<bool> touched_;  // slots that were filled before: their pages are there
  std::vector<int> slot_of_;   // by expert, -1 where it is in none
  std::vector<Key> queue_;     // demanded, from next_ on
  std::size_t next_ = 0;
  std::uint64_t demands_ = 0;
  ExpertHints hints_;
  int hinted_slot_ = -1;      // the one whose reads are not all begun
  int hint_reads_ = 0;        // parts under way
  std::vector<int> arrived_;  // slots whose reads are done
  bool closing_ = false;      // no more reads
  bool stopping_ = false;     // no more work either
  int reading_ = 0;           // demanded experts that are being read
  int reads_ = 0;             // under way
  Clock::time_point reading_since_;
  ExpertCacheStats stats_;
  std::unique_ptr<DiskReader> reader_;  // its threads use all of the above
  std::jthread arranger_;
};

}  // namespace millrace
