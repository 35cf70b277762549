// SketchedLinear: y = W x for a weight of many outputs of which only the largest matter: estimates, but exact for the
// outputs with the `exact` largest estimates (ties: the smaller index first). It reads the weight's sketch, a sixteenth
// of bf16, and those rows. For guesses, never for results.
//   estimate[o] = sum of means[e] x[e] + scales[o] * s * sum of +-q[e], with z[e] = spreads[e] x[e], s = max |z| / 127
//   and q[e] = z[e] / s rounded to nearest even; the sign is that of the bit
// in fp32 with one rounding per operation; the first sum keeps 16 lanes, element e in lane e % 16, then lane i with
// i + 8, i + 4, i + 2 and i + 1; the second is of integers. A row of x with a NaN or an infinity makes NaNs. Exact
// outputs have the bits of a Linear (Compute::bf16 or f32). Results depend on nothing but inputs and weights.
#pragma once

#include "ops/isa.h"
#include "ops/linear.h"
#include "ops/linear_sketch.h"

namespace millrace {

// sums[o - begin], for o in [begin, end): of the q whose bits are set in row o. bits: (., words), q: (64 * words),
// aligned to 64, -127 to 127.
using BitSumsFn = void(const std::uint64_t* bits, std::int64_t words, const std::int8_t* q, std::int64_t begin,
                       std::int64_t end, std::int32_t* sums) noexcept;
extern const Kernel<BitSumsFn> bit_sums_kernel;

class SketchedLinear final : public Op {
 public:
  // Input: (rows, inputs); output: (rows, outputs). weight: one that can_sketch(); it and its sketch must outlive the
  // operator. Throws Error(bad_argument) for other weights, a sketch of another shape, computes that are not bf16 or
  // f32, and what linear_weight() throws.
  SketchedLinear(const Tensor& weight, const LinearSketch& sketch, std::int64_t exact, Compute compute,
                 Rounding rounding);

  std::string_view kind() const noexcept override { return "sketched_linear"; }
  void run(const StepContext& context) const override;
  std::size_t scratch_bytes(std::int64_t rows, int threads) const override;
  Cost cost(const StepContext& context) const override;

 private:
  struct Scratch;

  void prepare(const float* x, const Scratch& scratch) const noexcept;
  void estimate(const Scratch& scratch, std::int64_t block, float* y) const noexcept;
  std::int64_t choose(const Scratch& scratch, const float* y) const noexcept;

  LinearWeight weight_;
  LinearSketch sketch_;
  std::int64_t exact_;
  Compute compute_;
  Rounding rounding_;
};

}  // namespace millrace
