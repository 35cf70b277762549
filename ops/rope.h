// Rotary position embedding on the leading rotary_dim dimensions of every head; the others pass through.
// Pairs (i, i + rotary_dim/2) turn by angle = position * inverse_frequency[i], which is one fp32 product; its cosine
// and sine are the double functions rounded to fp32, times the attention factor in fp32. With a = x_i, b = x_(i+half):
//   Rounding::none   y_i = fma(a, c, -(b s)),              y_(i+half) = fma(b, c, a s)
//   Rounding::bf16   y_i = r(r(a c) - r(b s)),             y_(i+half) = r(r(b c) + r(a s)), c and s rounded before
// where r rounds to bf16. Source: Transformers apply_rotary_pos_emb; scaled types: its modeling_rope_utils.
#pragma once

#include <vector>

#include "ops/isa.h"
#include "runtime/numerics.h"
#include "runtime/op.h"

namespace millrace {

enum class RopeScaling { none, linear, yarn };

struct RopeParameters {
  RopeScaling scaling = RopeScaling::none;
  std::int64_t rotary_dim = 0;  // even
  double theta = 0;
  double factor = 1;                     // linear, yarn
  std::int64_t original_positions = 0;   // yarn: the length the unscaled frequencies were trained for
  double beta_fast = 32, beta_slow = 1;  // yarn: turns within that length between which the two scalings blend
  double attention_factor = 1;           // multiplies cos and sin
};

// What all layers of one kind share. fp32 as in the reference: 1 / powf(theta, 2i / rotary_dim), then the scaling.
struct RopeTable {
  // Throws Error(bad_argument) on impossible parameters.
  explicit RopeTable(const RopeParameters& parameters);

  std::vector<float> inverse_frequencies;  // (rotary_dim / 2)
  float attention_factor = 1;
};

// x, y: (rows, heads, dim), may be the same; cosines, sines: (rows, half), already rounded as `rounding` says.
using RopeFn = void(const float* x, const float* cosines, const float* sines, float* y, std::int64_t rows,
                    std::int64_t heads, std::int64_t dim, std::int64_t half, Rounding rounding,
                    Rounding output) noexcept;
extern const Kernel<RopeFn> rope_kernel;

class Rope final : public Op {
 public:
  // Input 0 and output 0: (heads, dim) per row, turned by Batch::positions. `rounding`: of tables and steps, `output`:
  // of every result, passed-through ones included. Throws Error(bad_argument) if more than `dim` dimensions rotate.
  Rope(RopeTable table, std::int64_t heads, std::int64_t dim, Rounding rounding, Rounding output);

  std::string_view kind() const noexcept override { return "rope"; }
  void run(const StepContext& context) const override;
  std::size_t scratch_bytes(std::int64_t rows, int threads) const override;
  Cost cost(const StepContext& context) const override;

 private:
  void fill_tables(std::int32_t position, float* cosines, float* sines) const;

  RopeTable table_;
  std::int64_t heads_, dim_;
  Rounding rounding_, output_;
};

}  // namespace millrace
