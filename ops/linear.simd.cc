#include "ops/linear.simd.h"
#include "ops/widened_mul.simd.h"

namespace millrace::MILLRACE_ISA {
namespace {

// One output's weights in fp32, in memory of the weight itself or in `target`, padded with zeros to 64 there.
const float* row_f32(const LinearWeight& weight, std::int64_t output, float* target) noexcept {
  const std::int64_t inputs = weight.inputs, offset = output * inputs;
  if (weight.format == LinearFormat::f32) return static_cast<const float*>(weight.data) + offset;
  if (weight.format == LinearFormat::bf16) {
    const auto* source = static_cast<const std::uint16_t*>(weight.data) + offset;
    for (std::int64_t e = 0; e < inputs; e += 16) Lanes::load_bf16_first(source + e, inputs - e).store(target + e);
    return target;
  }
  if (weight.format == LinearFormat::mxfp4) {
    const auto* pairs = static_cast<const std::uint8_t*>(weight.data) + offset / 2;
    const std::uint8_t* exponents = weight.exponents + offset / mxfp4_block;
    for (std::int64_t e = 0; e < inputs; ++e)
      target[e] = mxfp4_to_f32(e % 2 == 0 ? pairs[e / 2] & 15u : pairs[e / 2] >> 4, exponents[e / mxfp4_block]);
    return target;
  }
  const float* scales = weight.scales_of(output);
  const auto* codes = static_cast<const std::uint8_t*>(weight.data) + offset;
  for (std::int64_t e = 0; e < inputs; e += 16) {
    std::uint8_t padded[16] = {};
    const std::int64_t count = inputs - e < 16 ? inputs - e : 16;
    std::memcpy(padded, codes + e, static_cast<std::size_t>(count));
    (decode_fp8(padded) * Lanes::broadcast(scales[e / linear_block])).store(target + e);
  }
  return target;
}

template <int R>
void dot_f32(const float* const (&x)[R], const float* w, std::int64_t inputs, float* y,
             std::int64_t y_stride) noexcept {
  Lanes acc[R][4];
  for (auto& row : acc)
    for (Lanes& lanes : row) lanes = Lanes::zero();
  std::int64_t e = 0;
  for (; e + 64 <= inputs; e += 64) {
    for (int line = 0; line < 64; line += 16) Ahead{}.prefetch(w + e + line);
#pragma GCC unroll 4
    for (int a = 0; a < 4; ++a) {
      const Lanes weights = Lanes::load(w + e + a * 16);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[r][a] = fma(Lanes::load(x[r] + e + a * 16), weights, acc[r][a]);
    }
  }
  if (e < inputs)
    for (int a = 0; a < 4; ++a) {
      const std::int64_t at = e + a * 16, rest = inputs - at < 0 ? 0 : inputs - at;
      if (rest == 0) {
        for (int r = 0; r < R; ++r) acc[r][a] = fma(Lanes::zero(), Lanes::zero(), acc[r][a]);
        continue;
      }
      const Lanes weights = Lanes::load_first(w + at, rest);
      for (int r = 0; r < R; ++r) acc[r][a] = fma(Lanes::load_first(x[r] + at, rest), weights, acc[r][a]);
    }
  for (int r = 0; r < R; ++r) y[r * y_stride] = sum_of(acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
}

template <int R>
void rows_f32(const LinearCall& call, std::int64_t first, const float* const* w, std::int64_t output,
              int outputs) noexcept {
  const float* x[R];
  for (int r = 0; r < R; ++r) {
    const std::int64_t row = call.x_rows != nullptr ? call.x_rows[first + r] : first + r;
    x[r] = static_cast<const float*>(call.x) + row * call.weight.inputs;
  }
  float* y = call.y + first * call.y_stride + output;
  for (int n = 0; n < outputs; ++n) dot_f32<R>(x, w[n], call.weight.inputs, y + n, call.y_stride);
}

}  // namespace

void pack_bf16(const float* x, std::int64_t rows, std::int64_t inputs, std::uint16_t* packed) noexcept {
  for (std::int64_t row = 0; row < rows; ++row, x += inputs)
    for (std::int64_t e = 0; e < padded_inputs(inputs); e += 64, packed += 64) {
      alignas(64) std::uint16_t natural[64] = {};
      const std::int64_t rest = inputs - e, count = rest < 0 ? 0 : rest < 64 ? rest : 64;
      for (std::int64_t i = 0; i < count; ++i) natural[i] = bf16_from_f32(x[e + i]);
      for (int part = 0; part < parts; ++part) {
        const Unpacked groups = unpack_bf16(natural + part * part_elements);
        std::memcpy(packed + part * part_elements / 2, &groups.even, sizeof groups.even);
        std::memcpy(packed + 32 + part * part_elements / 2, &groups.odd, sizeof groups.odd);
      }
    }
}

void linear_bf16(const LinearCall& call) noexcept {
  multiply<WidenedMul>(call);
}

// A few outputs' weights at a time are widened once for all rows.
void linear_f32(const LinearCall& call) noexcept {
  constexpr int rows_at_once = parts == 1 ? 4 : 1, most_outputs = static_cast<int>(LinearScratch::tile_outputs);
  auto* tile = reinterpret_cast<float*>(call.scratch);
  for (std::int64_t o = call.begin; o < call.end; o += most_outputs) {
    const int outputs = static_cast<int>(call.end - o < most_outputs ? call.end - o : most_outputs);
    const float* w[most_outputs];
    for (int n = 0; n < outputs; ++n) w[n] = row_f32(call.weight, o + n, tile + n * padded_inputs(call.weight.inputs));
    std::int64_t row = 0;
    for (; row + rows_at_once <= call.rows; row += rows_at_once) rows_f32<rows_at_once>(call, row, w, o, outputs);
    for (; row < call.rows; ++row) rows_f32<1>(call, row, w, o, outputs);
  }
}

}  // namespace millrace::MILLRACE_ISA
