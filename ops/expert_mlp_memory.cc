#include "ops/expert_mlp_memory.h"

#include <algorithm>

#include "ops/scratch_carver.h"

namespace millrace {
namespace {

constexpr std::int64_t least_wave_pairs = 512;  // pairs a wave may hold however few rows there are

}  // namespace

ExpertMlp::Memory ExpertMlp::layout(std::int64_t rows, int threads, std::byte* scratch) const {
  const std::int64_t pairs = rows * options_.top_k;
  ScratchCarver carver(scratch);
  Memory memory{};
  memory.wave_pairs = std::min(pairs, std::max(2 * rows, least_wave_pairs));
  for (std::size_t form = 0; form < form_count_; ++form) {
    const bool tiles = forms_[form] == Compute::bf16_tiles && isa_supported(Isa::amx);  // whatever tier is active now
    const auto bytes = [&](auto inputs) { return static_cast<std::int64_t>(packed_row_bytes(forms_[form], inputs)); };
    memory.packed_x[form] = carver.take<std::byte>((tiles ? memory.wave_pairs : rows) * bytes(options_.hidden));
    memory.packed_t[form] = carver.take<std::byte>(memory.wave_pairs * bytes(options_.width));
  }
  memory.used = carver.take<std::int32_t>(options_.experts);
  memory.first = carver.take<std::int32_t>(options_.experts + 1);
  memory.pair_row = carver.take<std::int32_t>(pairs);
  memory.pair_of = carver.take<std::int32_t>(pairs);
  memory.hinted = carver.take<std::int32_t>(options_.experts);
  memory.hint_weight = carver.take<float>(options_.experts);
  memory.gate = carver.take<float>(memory.wave_pairs * options_.width);
  memory.up = carver.take<float>(memory.wave_pairs * options_.width);
  memory.y = carver.take<float>(memory.wave_pairs * options_.hidden);
  memory.workers = WorkerScratch(carver, std::max(options_.hidden, options_.width), threads);
  memory.bytes = carver.used();
  return memory;
}

std::size_t ExpertMlp::scratch_bytes(std::int64_t rows, int threads) const {
  return layout(rows, threads, nullptr).bytes;
}

}  // namespace millrace
