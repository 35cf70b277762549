// Embedding: y[row] = table[tokens[row]], widened to fp32 (exact). With Rounding::bf16 the entries of an F16 or F32
// table are rounded to bf16, as if the table had been loaded as bf16. A run that brings its own embeddings
// (RunInputs::embeddings) gets those instead, rounded likewise.
#pragma once

#include "runtime/numerics.h"
#include "runtime/op.h"
#include "runtime/tensor.h"

namespace millrace {

class Embedding final : public Op {
 public:
  // table: (vocab, hidden) of BF16, F16 or F32; not owned. No inputs, output 0: (rows, hidden).
  // Throws Error(bad_argument) for another table; run() does for a token id outside 0..vocab-1 that is looked up.
  Embedding(const Tensor& table, Rounding rounding);

  std::string_view kind() const noexcept override { return "embedding"; }
  void run(const StepContext& context) const override;
  Cost cost(const StepContext& context) const override;

 private:
  void write_row(std::int64_t id, float* y) const noexcept;
  void round(float* y) const noexcept;

  Tensor table_;
  Rounding rounding_;
};

}  // namespace millrace
