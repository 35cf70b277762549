// ExpertStore: the experts of a checkpoint, checked by header when constructed, and then held in one of three ways: all
// in memory, in the mapped files, or streamed through a cache (expert_cache.h). Results are the same.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "loader/expert_cache.h"
#include "loader/expert_image.h"
#include "loader/stored_expert.h"
#include "loader/weight_store.h"
#include "runtime/buffer.h"

namespace millrace {

class ExpertStore final : public ExpertSource {
 public:
  // Finds and checks all experts, reading headers only; counts them as used in `store`, whose options it follows.
  // The checkpoint of `store` must outlive this; the store need not. Throws what WeightStore::find_linear throws.
  ExpertStore(WeightStore& store, const std::vector<ExpertLayer>& layers);

  std::uint64_t expert_bytes(int layer) const override;

  // Computing thread only. After an error the next call for that expert tries again.
  void demand(const ExpertDemand& demand) override;
  void hint(const ExpertHint& hint) override;
  std::optional<ExpertLease> try_acquire(int layer, int expert) override;
  ExpertLease acquire(int layer, int expert) override;

  // Copies or converts all experts into memory now, reading around the page cache; takes resident_bytes(). Computing
  // thread only.
  // `more_bytes`: memory beyond preload_bytes() for what has been read and is not converted yet, for all streams.
  void preload(const Progress& progress, std::size_t more_bytes = 0);

  // Leaves all experts in the mapped files, FP8 as it is: the system reads their pages when they are touched. Before
  // those that are mapped at a time, and what is kept beside them, take more than `bytes`, all mapped pages are let go.
  // Throws Error(out_of_memory), telling how much is needed at least.
  void stay_mapped(std::uint64_t bytes);
  bool is_mapped() const noexcept { return mapped_limit_ > 0; }

  // From now on experts are read when they are wanted, into a cache. Throws what ExpertCache throws.
  void stream(const ExpertCacheOptions& options);
  // Null while they are not.
  const ExpertCache* cache() const noexcept { return cache_.get(); }

  // Bytes of all experts in the files, and what holding all of them takes beside the mapped files.
  std::uint64_t file_bytes() const noexcept { return file_bytes_; }
  std::uint64_t owned_bytes() const noexcept { return owned_bytes_; }
  // What preload() takes, and what it needs beside that until it is done.
  std::uint64_t resident_bytes() const noexcept { return resident_bytes_; }
  std::uint64_t preload_bytes() const noexcept;
  std::int64_t count() const noexcept;
  // What one takes in the cache.
  std::uint64_t slot_bytes() const noexcept { return images_.slot_bytes(); }

 private:
  struct Loaded {
    ExpertWeights weights;
    std::array<LoadedLinear, 3> kept;  // of one in the mapped files: what cannot be used in place
    std::byte* place = nullptr;        // in memory_, of a resident one
    bool ready = false;
    std::uint64_t mapping = 0;  // mapping_ when its pages were last read
  };

  const std::vector<std::vector<StoredExpert>>& layers() const noexcept { return images_.layers(); }
  const StoredExpert& stored(int layer, int expert) const noexcept {
    return layers()[static_cast<std::size_t>(layer)][static_cast<std::size_t>(expert)];
  }
  void take_memory();
  void map_pages(const StoredExpert& stored, Loaded& loaded);
  const Loaded& load(int layer, int expert, const WeightOptions& options, const ByteSource& source);
  void load_range(std::int64_t begin, std::int64_t end, std::size_t more_bytes,
                  const std::function<void(const StoredExpert&)>& loaded);

  WeightOptions options_;
  const ExpertImages images_;   // layers by their numbers; those of dense layers are empty
  std::vector<Buffer> memory_;  // of resident experts, by layer: together, so that they lie on large pages
  std::vector<std::vector<Loaded>> loaded_;
  std::unique_ptr<ExpertCache> cache_;
  std::uint64_t mapped_limit_ = 0, mapped_bytes_ = 0;  // pages of experts in the mapped files
  std::uint64_t mapping_ = 1;                          // counts how often they were let go
  std::uint64_t file_bytes_ = 0, owned_bytes_ = 0, resident_bytes_ = 0;
  std::uint64_t most_viewed_ = 0;  // while one of them is loaded
};

}  // namespace millrace
