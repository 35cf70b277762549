// The portable kernels, as plain as the contract, and the choice among the tiers.
#include "ops/linear_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "ops/linear_tiles.h"
#include "runtime/bfloat16.h"
#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "runtime/float4.h"
#include "runtime/float8.h"
#include "runtime/float_mode.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(PackBf16Fn, pack_bf16)
MILLRACE_DECLARE_TIERS(LinearFn, linear_bf16)
MILLRACE_DECLARE_TIERS(LinearFn, linear_f32)
MILLRACE_DECLARE_TIERS(LinearFn, linear_bf16_widened)

namespace scalar {
namespace {

using Accumulators = float[4][16];

// The element at position q of a packed row.
std::int64_t element_at(std::int64_t q) {
  const std::int64_t accumulator = q / 32, p = q % 32;
  return accumulator / 2 * 64 + p / 8 * 16 + accumulator % 2 * 8 + p % 8;
}

float sum(Accumulators& acc) {
  float lane[16];
  for (int i = 0; i < 16; ++i) lane[i] = (acc[0][i] + acc[1][i]) + (acc[2][i] + acc[3][i]);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

float weight_at(const LinearWeight& weight, std::int64_t output, std::int64_t e) {
  const std::int64_t index = output * weight.inputs + e;
  if (weight.format == LinearFormat::f32) return static_cast<const float*>(weight.data)[index];
  if (weight.format == LinearFormat::bf16) return bf16_to_f32(static_cast<const Bfloat16*>(weight.data)[index]);
  if (weight.format == LinearFormat::mxfp4) {
    const unsigned pair = static_cast<const std::uint8_t*>(weight.data)[index / 2];
    return bf16_to_f32(mxfp4_to_bf16(e % 2 == 0 ? pair & 15u : pair >> 4, weight.exponents[index / 32]));
  }
  const float scale = weight.scales_of(output)[e / linear_block];
  return e4m3_to_f32(static_cast<const std::uint8_t*>(weight.data)[index]) * scale;
}

}  // namespace

void pack_bf16(const float* x, std::int64_t rows, std::int64_t inputs, std::uint16_t* packed) noexcept {
  const std::int64_t padded = padded_inputs(inputs);
  for (std::int64_t row = 0; row < rows; ++row, x += inputs, packed += padded)
    for (std::int64_t q = 0; q < padded; ++q) {
      const std::int64_t e = element_at(q);
      packed[q] = e < inputs ? bf16_from_f32(x[e]) : Bfloat16{0};
    }
}

// A product of two bf16 is exact in double and its sum with an fp32 rounds to fp32 as a fused multiply-add would.
void linear_bf16(const LinearCall& call) noexcept {
  const std::int64_t padded = padded_inputs(call.weight.inputs);
  auto* w = reinterpret_cast<float*>(call.scratch);  // one row of weights, in packed order
  for (std::int64_t o = call.begin; o < call.end; ++o) {
    for (std::int64_t q = 0; q < padded; ++q) {
      const std::int64_t e = element_at(q);
      w[q] = e < call.weight.inputs ? round_to_bf16(weight_at(call.weight, o, e)) : 0.0f;
    }
    for (std::int64_t row = 0; row < call.rows; ++row) {
      const std::int64_t source = call.x_rows != nullptr ? call.x_rows[row] : row;
      const Bfloat16* x = static_cast<const Bfloat16*>(call.x) + source * padded;
      Accumulators acc = {};
      for (std::int64_t q = 0; q < padded; ++q) {
        const std::int64_t odd_first = q ^ 1;
        float& lane = acc[q / 32 % 4][q % 32 / 2];
        const double product = double{bf16_to_f32(x[odd_first])} * double{w[odd_first]};
        lane = static_cast<float>(product + double{lane});
      }
      call.y[row * call.y_stride + o] = sum(acc);
    }
  }
}

void linear_f32(const LinearCall& call) noexcept {
  const std::int64_t inputs = call.weight.inputs;
  auto* w = reinterpret_cast<float*>(call.scratch);  // one row of weights
  for (std::int64_t o = call.begin; o < call.end; ++o) {
    for (std::int64_t e = 0; e < inputs; ++e) w[e] = weight_at(call.weight, o, e);
    for (std::int64_t row = 0; row < call.rows; ++row) {
      const std::int64_t source = call.x_rows != nullptr ? call.x_rows[row] : row;
      const float* x = static_cast<const float*>(call.x) + source * inputs;
      Accumulators acc = {};
      for (std::int64_t e = 0; e < (inputs + 63) / 64 * 64; ++e) {
        float& lane = acc[e / 16 % 4][e % 16];
        lane = e < inputs ? std::fma(x[e], w[e], lane) : std::fma(0.0f, 0.0f, lane);
      }
      call.y[row * call.y_stride + o] = sum(acc);
    }
  }
}

}  // namespace scalar

const Kernel<PackBf16Fn> pack_bf16_kernel = {
    "pack_bf16",
    {scalar::pack_bf16, MILLRACE_AVX2(pack_bf16), MILLRACE_AVX512(pack_bf16), nullptr, nullptr},
};

const Kernel<LinearFn> linear_bf16_kernel = {
    "linear_bf16",
    {scalar::linear_bf16, MILLRACE_AVX2(linear_bf16), MILLRACE_AVX512(linear_bf16), MILLRACE_AVX512BF16(linear_bf16),
     nullptr},
};

const Kernel<LinearFn> linear_bf16_widened_kernel = {
    "linear_bf16_widened",
    {scalar::linear_bf16, MILLRACE_AVX2(linear_bf16), MILLRACE_AVX512(linear_bf16),
     MILLRACE_AVX512BF16(linear_bf16_widened), nullptr},
};

const Kernel<LinearFn> linear_f32_kernel = {
    "linear_f32",
    {scalar::linear_f32, MILLRACE_AVX2(linear_f32), MILLRACE_AVX512(linear_f32), nullptr, nullptr},
};

namespace {

constexpr std::int64_t few_rows = 12;  // so few go through registers, 4 at a time

// A small product of FP8 weights, to compare kernels by.
class Trial {
 public:
  explicit Trial(std::int64_t rows)
      : rows_(rows),
        y_(static_cast<std::size_t>(rows * outputs) * sizeof(float), "outputs"),
        x_(packed_bytes(rows, inputs), "inputs") {
    std::memset(weight_.data(), 0x38, weight_.bytes());
    scales_.fill(1);
  }

  double seconds(LinearFn* kernel) {
    const Clock::time_point start = Clock::now();
    kernel({.weight = {.data = weight_.data(),
                       .scales = scales_.data(),
                       .format = LinearFormat::f8_e4m3,
                       .outputs = outputs,
                       .inputs = inputs,
                       .scale_columns = columns,
                       .segment_rows = outputs,
                       .skipped_rows = 0,
                       .small_codes = reinterpret_cast<const std::uint8_t*>(small_.data())},
            .x = x_.data(),
            .x_rows = nullptr,
            .rows = rows_,
            .y = reinterpret_cast<float*>(y_.data()),
            .y_stride = outputs,
            .begin = 0,
            .end = outputs,
            .scratch = scratch_.data()});
    return seconds_since(start);
  }

 private:
  static constexpr std::int64_t outputs = 256, inputs = 1024, columns = inputs / linear_block;

  std::int64_t rows_;
  Buffer weight_{outputs * inputs, "weights"}, small_{outputs * columns / 8, "small codes"},
      scratch_{linear_scratch_bytes(inputs), "scratch"};
  Buffer y_, x_;
  std::array<float, outputs / linear_block * columns> scales_;
};

// By turns, so that a processor that is still waking up wakes up for both.
LinearFn* faster_of(LinearFn* a, LinearFn* b, std::int64_t rows) {
  const FloatMode mode;
  Trial trial(rows);
  double of_a = 1, of_b = 1;
  for (int i = 0; i < 10; ++i) {
    of_a = std::min(of_a, trial.seconds(a));
    of_b = std::min(of_b, trial.seconds(b));
  }
  return of_a < of_b ? a : b;
}

}  // namespace

LinearFn* best_linear_bf16(std::int64_t rows) {
  const Isa isa = active_isa();
  if (isa < Isa::avx512bf16) return linear_bf16_kernel.at(isa);
  LinearFn* const pairs = linear_bf16_kernel.at(Isa::avx512bf16);
  LinearFn* const widened = linear_bf16_widened_kernel.at(Isa::avx512bf16);
  static LinearFn* const for_one = faster_of(pairs, widened, 1);
  static LinearFn* const for_few = faster_of(pairs, widened, 4);
  static LinearFn* const for_many = faster_of(pairs, widened, 24);
  return rows <= 1 ? for_one : rows <= few_rows ? for_few : for_many;
}

std::size_t linear_scratch_bytes(std::int64_t inputs) noexcept {
  return std::max(LinearScratch::bytes(inputs), TileScratch::bytes(inputs));
}

}  // namespace millrace
