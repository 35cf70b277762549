// Experts that live in the mapped checkpoint: checked by header when constructed, read (or dequantized, with
// WeightFormat::bf16) at their first use, then kept. The operating system may drop and re-read clean pages.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "loader/weight_store.h"
#include "runtime/expert_source.h"

namespace millrace {

// The experts of one MoE layer, stored one by one ("<prefix>.E.gate_proj.weight", "up_proj", "down_proj") or merged
// ("<prefix>.gate_up_proj" (experts, 2 * width, hidden), gate rows first, and "<prefix>.down_proj" (experts, hidden,
// width)), the latter also with the last two dimensions exchanged.
struct ExpertLayer {
  int layer = 0;       // what acquire() calls it
  std::string prefix;  // canonical: "layers.3.mlp.experts"
  std::int64_t experts = 0, width = 0, hidden = 0;
};

class MappedExperts final : public ExpertSource {
 public:
  // Finds and checks all experts, reading headers only; counts them as used in `store`, whose options it follows.
  // The checkpoint of `store` must outlive this; the store need not. Throws what WeightStore::find_linear throws.
  MappedExperts(WeightStore& store, const std::vector<ExpertLayer>& layers);

  std::uint64_t expert_bytes(int layer) const override;

  // Computing thread only. After an error the next call for that expert tries again.
  ExpertLease acquire(int layer, int expert) override;

  // Copies or converts all experts into memory now, which takes resident_bytes(). Computing thread only.
  void preload(const Progress& progress);

  // Leaves all experts in the mapped files, FP8 as it is, for models larger than memory: the bits are the same.
  void stay_mapped() noexcept { options_.format = WeightFormat::fp8; }

  // Bytes of all experts in the files, and what holding all of them takes beside the mapped files.
  std::uint64_t file_bytes() const noexcept { return file_bytes_; }
  std::uint64_t owned_bytes() const noexcept { return owned_bytes_; }
  // What preload() takes.
  std::uint64_t resident_bytes() const noexcept { return resident_bytes_; }

 private:
  struct Expert {
    StoredLinear gate, up, down;
    LoadedLinear loaded_gate, loaded_up, loaded_down;
    bool resident = false;
  };

  static std::vector<Expert> find_single(WeightStore& store, const ExpertLayer& layer);
  static std::vector<Expert> find_merged(WeightStore& store, const ExpertLayer& layer);
  void load(Expert& expert);

  WeightOptions options_;
  std::vector<std::vector<Expert>> layers_;  // by layer number; empty for dense layers
  std::uint64_t file_bytes_ = 0, owned_bytes_ = 0, resident_bytes_ = 0;
};

}  // namespace millrace
