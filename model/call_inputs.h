// What a call of Session::forward may bring beside token ids, and CallInputs: the same, checked, cut to the rows of
// each pass. Used by one thread.
//
// `held` are the tokens a session holds before a call, `rows` the new ones; masks cover held + rows keys, in the order
// of the sequence. Positions are never derived from a mask.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/run_inputs.h"

namespace millrace {

class Engine;

// One mask for the layers of a kind, exactly one of the two: (rows, held + rows), row-major.
struct LayerMask {
  // "full_attention", "sliding_attention" or "sliding_window_attention"; empty = every layer.
  std::string_view kind;
  std::span<const std::uint8_t> visible = {};  // 1 = seen
  std::span<const float> additive = {};        // added to the scaled scores; KeyMask::hides or less hides
};

// The experts of one layer: router replay.
struct LayerExperts {
  int layer = 0;
  std::span<const std::int32_t> ids;    // (rows, top_k), different ones in each row, in any order
  std::span<const float> weights = {};  // (rows, top_k) in the order of ids; empty = from the row's router logits
};

// Attention probabilities of a call: exact, and much memory. Sinks have no column, so with sinks rows sum to less
// than 1.
struct AttentionRecord {
  std::vector<int> layers;                          // wanted; empty = all
  std::int64_t keys = 0;                            // set by the call: columns; key j is the j-th token of the sequence
  std::map<int, std::vector<float>> probabilities;  // by layer: (rows, heads, keys)
};

// A call's inputs. Empty means not given.
struct ForwardInputs {
  std::span<const float> embeddings = {};       // (rows, hidden), instead of token ids
  std::span<const std::uint8_t> padding = {};   // (held + rows) 1 = keep; the built-in rule without padding
  std::span<const LayerMask> masks = {};        // in place of the built-in rule, window and padding
  std::span<const std::uint8_t> inactive = {};  // (rows) 1 = given to no expert; padding is inactive anyway
  std::span<const LayerExperts> experts = {};   // in place of the router's choice
  AttentionRecord* attention = nullptr;         // filled by the call

  bool any() const noexcept {
    return embeddings.data() != nullptr || padding.data() != nullptr || !masks.empty() || inactive.data() != nullptr ||
           !experts.empty() || attention != nullptr;
  }
  // Whether the rows cannot be computed again from their tokens and positions.
  bool changes_rows() const noexcept {
    return embeddings.data() != nullptr || padding.data() != nullptr || !masks.empty() || inactive.data() != nullptr ||
           !experts.empty();
  }
};

class CallInputs {
 public:
  // Throws Error(bad_argument) naming what contradicts the model or the call: wrong sizes, embeddings that are not
  // finite, flags other than 0 and 1, mask entries that are NaN or +infinity, unknown kinds and layers, a row that sees
  // nothing in a layer without sinks (unless it is inactive or padding), keys that a window has let go of.
  // `inputs` must outlive this.
  CallInputs(const Engine& engine, const ForwardInputs& inputs, std::int64_t held, std::int64_t rows);

  // Whether all rows must be computed in one pass: masks may show later rows.
  bool one_pass() const noexcept { return !inputs_.masks.empty(); }

  // For a pass whose first row is the new row `begin`. Valid until the next call of this function.
  const RunInputs& of_rows(std::int64_t begin);

 private:
  void take_padding();
  void take_mask(const LayerMask& mask);
  void check_mask(const KeyMask& mask, bool sliding, std::string_view kind) const;
  void take_experts(const LayerExperts& layer);
  void take_attention();

  // Experts of one layer in ascending order of ids.
  struct Forced {
    int layer;
    std::vector<std::int32_t> ids;
    std::vector<float> weights;
  };

  const Engine& engine_;
  const ForwardInputs& inputs_;
  std::int64_t held_, rows_;
  std::vector<std::uint8_t> inactive_;  // (rows) or empty
  KeyMask full_mask_, sliding_mask_;
  std::vector<Forced> forced_;
  std::vector<ForcedExperts> forced_views_;
  std::vector<float*> probabilities_;  // by layer, of the pass
  RunInputs pass_;
};

}  // namespace millrace
