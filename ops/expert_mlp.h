// ExpertMlp: the routed experts of one layer. For each row the sum over its experts, in ascending order of their ids,
// of weight * y_e by fused multiply-adds from zero, where
//   y_e = round(down (round(round(silu(a)) * round(b)))), a = round(gate x), b = round(up x),
// and every round() applies with Rounding::bf16 only; the sum is rounded at its end. With fp8_compute W8A8 the inputs
// of a matrix in FP8 are quantized: x, and the activation before `down`.
// Source: Transformers MiMoV2FlashExperts with its default implementation, which sums in fp32.
//
// Rows are grouped by expert, so that an expert's weights are read once per pass however many rows want it. Experts are
// taken in waves of at most max_leases; the threads share the output panels of a wave. A wave is what the source has in
// memory, in any order where the results of all pairs fit the scratch, else in that of the ids, so that a source that
// reads from a disk goes on reading meanwhile. What a row gets from an expert does not depend on the other rows. Rows
// that a run marks inactive (RunInputs::inactive) get no expert; their sum is 0.
//
// The operator may be told what the next layer is likely to choose, and passes that on to its source as a hint, experts
// that have most of the weight first, or in the order of their ids once that is most of a layer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ops/isa.h"
#include "ops/linear.h"
#include "runtime/expert_source.h"
#include "runtime/numerics.h"
#include "runtime/op.h"

namespace millrace {

struct ExpertMlpOptions {
  std::int64_t hidden = 0;  // width of a row
  std::int64_t width = 0;   // intermediate width of an expert
  std::int64_t top_k = 0;   // experts per row
  std::int64_t experts = 0;
  Compute compute = Compute::bf16;
  std::optional<Compute> fp8_compute = {};  // of matrices in FP8, where it is another
  Rounding rounding = Rounding::none;
};

// out[i] = weight * y[i] + out[i], one rounding. y, out: (count).
using ExpertCombineFn = void(float weight, const float* y, float* out, std::int64_t count) noexcept;
extern const Kernel<ExpertCombineFn> expert_combine_kernel;

class ExpertMlp final : public Op {
 public:
  static constexpr int max_leases = 8;  // experts held at a time: what a source must be able to keep

  // Inputs: x (rows, hidden); ids i32 (rows, top_k), strictly ascending in each row; weights (rows, top_k); and perhaps
  // ids and weights of the same form for layer + 1.
  // Output: (rows, hidden). `source` must outlive the operator and give gate, up (width, hidden), down (hidden, width).
  // run() throws Error(bad_argument) for ids that are out of range or out of order and for experts of other shapes.
  ExpertMlp(int layer, ExpertSource& source, const ExpertMlpOptions& options);

  std::string_view kind() const noexcept override { return "expert_mlp"; }
  void run(const StepContext& context) const override;
  std::size_t scratch_bytes(std::int64_t rows, int threads) const override;
  Cost cost(const StepContext& context) const override;

 private:
  // The computes that matrices may want, each with packed rows of its own: one, or two with fp8_compute.
  static constexpr std::size_t most_forms = 2;
  struct Use {
    double experts = 0, pairs = 0;
  };
  struct Memory;
  struct Matrix;
  struct Wave;
  struct Division;

  Use use_of(const StepContext& context) const;
  Matrix matrix(const Tensor& weight) const;
  Memory layout(std::int64_t rows, int threads, std::byte* scratch) const;
  std::int64_t group_rows(const StepContext& context, const Memory& memory) const;
  void hint_next(const StepContext& context, const Memory& memory) const;
  void add(Wave& wave, const Memory& memory, std::int32_t expert, ExpertLease&& lease) const;
  void take_next(Wave& wave, const Memory& memory, std::int64_t first, std::int64_t used) const;
  void take_present(Wave& wave, const Memory& memory, std::int64_t first, std::int64_t used) const;
  void pack_tiles(const StepContext& context, const Memory& memory, const Wave& wave) const;
  void gate_and_up(const StepContext& context, const Memory& memory, const Wave& wave) const;
  void down(const StepContext& context, const Memory& memory, const Wave& wave) const;
  void combine(const StepContext& context, const Memory& memory, std::int64_t begin, std::int64_t end) const;

  int layer_;
  ExpertSource& source_;
  ExpertMlpOptions options_;
  std::array<Compute, most_forms> forms_;
  std::size_t form_count_;
};

}  // namespace millrace
