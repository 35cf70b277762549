// RunInputs: what the rows of one run bring beside their tokens, and what they want beside their logits. Everything is
// borrowed for the pass; rows count from the run's first, keys from the start of the sequence.
#pragma once

#include <cstdint>
#include <span>

namespace millrace {

// Which keys each row sees in the layers of one kind. A key after the last row of the pass is never seen. Without
// anything set, the built-in rule holds: causal, and the window of the layer.
struct KeyMask {
  // An additive mask hides a key whose entry is this or less: the lowest number of the narrowest format masks come in.
  static constexpr float hides = -65504.0f;

  const std::uint8_t* keep = nullptr;     // (keys) 0 = hidden from every row, within the built-in rule
  const std::uint8_t* visible = nullptr;  // (rows, stride) 1 = seen, in place of the built-in rule
  const float* additive = nullptr;        // (rows, stride) added to the scaled scores, in place of the built-in rule
  std::int64_t stride = 0;                // keys from one row to the next

  bool given() const noexcept { return keep != nullptr || replaces(); }
  bool replaces() const noexcept { return visible != nullptr || additive != nullptr; }
  // Whether `row` sees `key`, which the built-in rule shows unless the mask replaces it.
  bool sees(std::int64_t row, std::int64_t key) const noexcept {
    if (visible != nullptr) return visible[row * stride + key] != 0;
    if (additive != nullptr) return additive[row * stride + key] > hides;
    return keep == nullptr || keep[key] != 0;
  }
};

// Experts of one layer that replace the router's choice: router replay.
struct ForcedExperts {
  int layer = 0;
  const std::int32_t* ids = nullptr;  // (rows, top_k), strictly ascending in each row
  const float* weights = nullptr;     // (rows, top_k), or null: computed from the row's own router logits
};

struct RunInputs {
  const float* embeddings = nullptr;       // (rows, hidden), in place of the embeddings of the tokens
  const std::uint8_t* inactive = nullptr;  // (rows) 1 = given to no expert: the expert block adds nothing
  KeyMask full_mask, sliding_mask;         // of layers without and with a window
  std::span<const ForcedExperts> forced;
  // By attention layer: (rows, heads, probability_keys), zeroed; null where they are not wanted. Empty for none.
  std::span<float* const> probabilities;
  std::int64_t probability_keys = 0;
};

}  // namespace millrace
