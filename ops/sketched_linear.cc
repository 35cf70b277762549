#include "ops/sketched_linear.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "ops/scratch_carver.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(BitSumsFn, bit_sums)

namespace scalar {

void bit_sums(const std::uint64_t* bits, std::int64_t words, const std::int8_t* q, std::int64_t begin, std::int64_t end,
              std::int32_t* sums) noexcept {
  for (std::int64_t o = begin; o < end; ++o) {
    std::int32_t sum = 0;
    for (std::int64_t w = 0; w < words; ++w)
      for (std::uint64_t rest = bits[o * words + w]; rest != 0; rest &= rest - 1)
        sum += q[w * 64 + std::countr_zero(rest)];
    sums[o - begin] = sum;
  }
}

}  // namespace scalar

const Kernel<BitSumsFn> bit_sums_kernel = {
    "bit_sums",
    {scalar::bit_sums, MILLRACE_AVX2(bit_sums), MILLRACE_AVX512(bit_sums), MILLRACE_AVX512BF16(bit_sums), nullptr},
};

namespace {

constexpr std::int64_t block = 64;            // outputs of which the largest estimate is kept
constexpr std::int64_t blocks_per_task = 32;  // of estimates: 512 KiB of a sketch of 2048 inputs

std::int64_t blocks_of(std::int64_t outputs) noexcept {
  return (outputs + block - 1) / block;
}

// The larger estimate first, of equal ones the smaller index.
struct LargerFirst {
  const float* y;
  bool operator()(std::int32_t a, std::int32_t b) const noexcept { return y[a] != y[b] ? y[a] > y[b] : a < b; }
};

}  // namespace

// What one row works with.
struct SketchedLinear::Scratch {
  struct Scales {
    float base, step;
    std::int32_t sum;  // of q
  };

  std::int8_t* q;        // padded with zeros
  std::byte* packed;     // x as the Linear's kernel takes it
  Scales* scales;        // one
  float* largest;        // of each block
  float* sorted;         // (blocks)
  std::int32_t* chosen;  // (outputs)
  std::byte* kernel;     // of each worker
  std::size_t bytes;

  Scratch(std::byte* memory, const LinearWeight& weight, Compute compute, int threads) noexcept {
    ScratchCarver carver(memory);
    q = carver.take<std::int8_t>((weight.inputs + 63) / 64 * 64);
    packed = carver.take<std::byte>(static_cast<std::int64_t>(packed_row_bytes(compute, weight.inputs)));
    scales = carver.take<Scales>(1);
    largest = carver.take<float>(blocks_of(weight.outputs));
    sorted = carver.take<float>(blocks_of(weight.outputs));
    chosen = carver.take<std::int32_t>(weight.outputs);
    kernel = carver.take<std::byte>(threads * static_cast<std::int64_t>(linear_scratch_bytes(weight.inputs)));
    bytes = carver.used();
  }
};

SketchedLinear::SketchedLinear(const Tensor& weight, const LinearSketch& sketch, std::int64_t exact, Compute compute,
                               Rounding rounding)
    : weight_(linear_weight(weight, compute)), sketch_(sketch), exact_(exact), compute_(compute), rounding_(rounding) {
  require(can_sketch(weight) && sketch.outputs == weight_.outputs && sketch.inputs == weight_.inputs,
          Errc::bad_argument, "sketched_linear: a sketch of [{}, {}] for a weight {}", sketch.outputs, sketch.inputs,
          shape_text(weight.shape()));
  require(compute == Compute::bf16 || compute == Compute::f32, Errc::bad_argument,
          "sketched_linear: exact outputs are computed in bf16 or f32");
  require(exact >= 1, Errc::bad_argument, "sketched_linear: {} exact outputs, expected 1 or more", exact);
  linear_kernel(compute_, 1);  // measures now, so that no step has to
}

// The integers, and what their sums are multiplied by.
void SketchedLinear::prepare(const float* x, const Scratch& scratch) const noexcept {
  float lanes[16] = {}, most = 0;
  for (std::int64_t e = 0; e < sketch_.inputs; ++e) {
    lanes[e % 16] += sketch_.means[e] * x[e];
    most = std::max(most, std::abs(sketch_.spreads[e] * x[e]));
  }
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  const float step = most / 127;
  std::int32_t sum = 0;
  for (std::int64_t e = 0; e < sketch_.inputs; ++e) {
    const float scaled = step > 0 ? sketch_.spreads[e] * x[e] / step : 0;
    // Neither NaN nor infinity has an integer; the base says enough then.
    // Adding a number whose last bit is worth 1 rounds.
    const int q = std::abs(scaled) <= 127 ? static_cast<int>((scaled + 0x1.8p23f) - 0x1.8p23f) : 0;
    sum += q;
    scratch.q[e] = static_cast<std::int8_t>(q);
  }
  std::fill(scratch.q + sketch_.inputs, scratch.q + sketch_.row_words() * 64, std::int8_t{0});
  *scratch.scales = {.base = lanes[0], .step = step, .sum = sum};
  pack_rows(compute_, x, 1, sketch_.inputs, scratch.packed);
}

// The estimates of a block of outputs, and the largest of them.
void SketchedLinear::estimate(const Scratch& scratch, std::int64_t index, float* y) const noexcept {
  const std::int64_t begin = index * block, end = std::min(begin + block, sketch_.outputs);
  std::int32_t sums[block];
  bit_sums_kernel.best()(sketch_.bits, sketch_.row_words(), scratch.q, begin, end, sums);
  const auto [base, step, sum] = *scratch.scales;
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t o = begin; o < end; ++o) {
    y[o] = base + sketch_.scales[o] * step * static_cast<float>(2 * sums[o - begin] - sum);
    if (y[o] > largest) largest = y[o];
  }
  scratch.largest[index] = largest;
}

// Lists the outputs with the largest estimates and returns their number. As many blocks as are wanted have an estimate
// of at least `least`, so no smaller one can be among them.
std::int64_t SketchedLinear::choose(const Scratch& scratch, const float* y) const noexcept {
  const std::int64_t blocks = blocks_of(sketch_.outputs);
  float least = -std::numeric_limits<float>::infinity();
  if (exact_ < blocks) {
    std::copy_n(scratch.largest, blocks, scratch.sorted);
    std::nth_element(scratch.sorted, scratch.sorted + exact_ - 1, scratch.sorted + blocks, std::greater<float>());
    least = scratch.sorted[exact_ - 1];
  }
  std::int64_t count = 0;
  for (std::int64_t index = 0; index < blocks; ++index) {
    if (scratch.largest[index] < least) continue;
    for (std::int64_t o = index * block; o < std::min((index + 1) * block, sketch_.outputs); ++o)
      if (y[o] >= least) scratch.chosen[count++] = static_cast<std::int32_t>(o);
  }
  if (count <= exact_) return count;
  std::nth_element(scratch.chosen, scratch.chosen + exact_ - 1, scratch.chosen + count, LargerFirst{y});
  return exact_;
}

void SketchedLinear::run(const StepContext& context) const {
  const Parallel& parallel = context.parallel;
  const Scratch scratch(context.scratch.data(), weight_, compute_, parallel.threads());
  const std::int64_t outputs = sketch_.outputs, inputs = sketch_.inputs, blocks = blocks_of(outputs);
  const std::size_t worker_size = linear_scratch_bytes(inputs);
  LinearFn* kernel = linear_kernel(compute_, 1);
  for (std::int64_t row = 0; row < context.rows; ++row) {
    const float* x = context.input(0) + row * inputs;
    float* y = context.output(0) + row * outputs;
    std::int64_t count = 0;
    parallel.for_range(1, 1, [&](std::int64_t, std::int64_t, int) { prepare(x, scratch); });
    parallel.for_tasks((blocks + blocks_per_task - 1) / blocks_per_task, blocks_per_task * block * inputs / 16,
                       [&](std::int64_t task, int) {
                         const std::int64_t end = std::min((task + 1) * blocks_per_task, blocks);
                         for (std::int64_t index = task * blocks_per_task; index < end; ++index)
                           estimate(scratch, index, y);
                       });
    parallel.for_range(1, 1, [&](std::int64_t, std::int64_t, int) { count = choose(scratch, y); });
    parallel.for_tasks(count, inputs, [&](std::int64_t index, int worker) {
      const std::int64_t o = scratch.chosen[index];
      kernel({.weight = weight_,
              .x = compute_ == Compute::f32 ? static_cast<const void*>(x) : scratch.packed,
              .x_rows = nullptr,
              .rows = 1,
              .y = y,
              .y_stride = outputs,
              .begin = o,
              .end = o + 1,
              .scratch = scratch.kernel + static_cast<std::size_t>(worker) * worker_size});
      if (rounding_ == Rounding::bf16) y[o] = round_to_bf16(y[o]);
    });
  }
}

std::size_t SketchedLinear::scratch_bytes(std::int64_t, int threads) const {
  return Scratch(nullptr, weight_, compute_, threads).bytes;
}

Cost SketchedLinear::cost(const StepContext& context) const {
  const auto rows = static_cast<double>(context.rows), inputs = static_cast<double>(sketch_.inputs);
  const auto outputs = static_cast<double>(sketch_.outputs);
  const auto exact = static_cast<double>(std::min(exact_, sketch_.outputs));
  const double sketch = outputs * (static_cast<double>(sketch_.row_words()) * 8 + 4) + 8 * inputs;
  return {.weight_bytes = sketch + rows * exact * static_cast<double>(weight_.row_bytes()),
          .activation_bytes = 4 * rows * (inputs + outputs),
          .flops = 2 * rows * (outputs + exact) * inputs};
}

}  // namespace millrace
