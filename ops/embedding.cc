#include "ops/embedding.h"

#include <algorithm>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "runtime/float16.h"
#include "runtime/run_inputs.h"

namespace millrace {

Embedding::Embedding(const Tensor& table, Rounding rounding) : table_(table), rounding_(rounding) {
  const Dtype dtype = table.dtype();
  require(table.rank() == 2 && table.dim(0) >= 1 && table.dim(1) >= 1, Errc::bad_argument,
          "the embedding table has shape {}, expected [vocab, hidden]", shape_text(table.shape()));
  require(dtype == Dtype::bf16 || dtype == Dtype::f16 || dtype == Dtype::f32, Errc::bad_argument,
          "the embedding table is {}, expected BF16, F16 or F32", name_of(dtype));
}

void Embedding::write_row(std::int64_t id, float* y) const noexcept {
  const std::int64_t hidden = table_.dim(1), first = id * hidden;
  if (table_.dtype() == Dtype::bf16) {
    const Bfloat16* row = table_.as<Bfloat16>() + first;
    for (std::int64_t e = 0; e < hidden; ++e) y[e] = bf16_to_f32(row[e]);
    return;
  }
  if (table_.dtype() == Dtype::f16) {
    const std::uint16_t* row = table_.as<std::uint16_t>() + first;
    for (std::int64_t e = 0; e < hidden; ++e) y[e] = f16_to_f32(row[e]);
  } else {
    const float* row = table_.as<float>() + first;
    for (std::int64_t e = 0; e < hidden; ++e) y[e] = row[e];
  }
  round(y);
}

void Embedding::round(float* y) const noexcept {
  if (rounding_ == Rounding::bf16)
    for (std::int64_t e = 0; e < table_.dim(1); ++e) y[e] = round_to_bf16(y[e]);
}

void Embedding::run(const StepContext& context) const {
  const std::int64_t vocab = table_.dim(0), hidden = table_.dim(1);
  float* y = context.output(0);
  context.parallel.for_range(context.rows, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const Batch::Run* run = context.batch.run_of(row);
      if (run != nullptr && run->inputs != nullptr && run->inputs->embeddings != nullptr) {
        std::copy_n(run->inputs->embeddings + (row - run->begin) * hidden, hidden, y + row * hidden);
        round(y + row * hidden);
        continue;
      }
      const std::int64_t id = context.batch.tokens[static_cast<std::size_t>(row)];
      require(id >= 0 && id < vocab, Errc::bad_argument, "token id {} is outside the vocabulary of {}", id, vocab);
      write_row(id, y + row * hidden);
    }
  });
}

Cost Embedding::cost(const StepContext& context) const {
  const double elements = static_cast<double>(context.rows) * static_cast<double>(table_.dim(1));
  return {.weight_bytes = static_cast<double>(size_of(table_.dtype())) * elements, .activation_bytes = 4 * elements};
}

}  // namespace millrace
