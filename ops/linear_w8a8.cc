// The portable kernels, as plain as the contract.
#include "ops/linear_w8a8.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "runtime/bfloat16.h"
#include "runtime/float8.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(QuantizeRowsFn, quantize_rows)
MILLRACE_DECLARE_TIERS(LinearFn, linear_w8a8)

namespace scalar {
namespace {

float group_scale(const float* x, std::int64_t count, ActivationScale form) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(x[i])) return std::numeric_limits<float>::quiet_NaN();
    largest = std::max(largest, std::abs(x[i]));
  }
  const float scale = std::max(largest, 1e-10f) / 448.0f;
  if (form == ActivationScale::f32) return scale;
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(scale) + 0x7fffffu) & 0xff800000u);
}

float sum_of_block(const Bfloat16* x, const float* w) {
  float lane[16] = {};
  for (std::int64_t e = 0; e < linear_block; ++e) lane[e % 16] = std::fma(bf16_to_f32(x[e]), w[e], lane[e % 16]);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

// The codes of one output without their scales, padded with zeros. codes: (padded_inputs).
const float* decode_row(const LinearWeight& weight, std::int64_t output, float* codes) {
  const auto* row = static_cast<const std::uint8_t*>(weight.data) + output * weight.inputs;
  for (std::int64_t e = 0; e < padded_inputs(weight.inputs); ++e)
    codes[e] = e < weight.inputs ? e4m3_to_f32(row[e]) : 0.0f;
  return codes;
}

}  // namespace

void quantize_rows(const float* x, std::int64_t rows, std::int64_t inputs, ActivationScale form,
                   QuantizedGroup* groups) noexcept {
  for (std::int64_t row = 0; row < rows; ++row, x += inputs)
    for (std::int64_t begin = 0; begin < inputs; begin += linear_block, ++groups) {
      const std::int64_t count = std::min(linear_block, inputs - begin);
      const float scale = groups->scale = group_scale(x + begin, count, form);
      for (std::int64_t i = 0; i < linear_block; ++i)
        groups->values[i] =
            i < count && std::isfinite(scale) ? bf16_from_f32(round_to_e4m3(x[begin + i] / scale)) : Bfloat16{0};
    }
}

void linear_w8a8(const LinearCall& call) noexcept {
  const std::int64_t groups = quantized_groups(call.weight.inputs);
  for (std::int64_t o = call.begin; o < call.end; ++o) {
    const float* w = decode_row(call.weight, o, reinterpret_cast<float*>(call.scratch));
    const float* weight_scales = call.weight.scales_of(o);
    for (std::int64_t row = 0; row < call.rows; ++row) {
      const std::int64_t source = call.x_rows != nullptr ? call.x_rows[row] : row;
      const QuantizedGroup* x = static_cast<const QuantizedGroup*>(call.x) + source * groups;
      float y = 0;
      for (std::int64_t g = 0; g < groups; ++g)
        y += sum_of_block(x[g].values, w + g * linear_block) * x[g].scale * weight_scales[g];
      call.y[row * call.y_stride + o] = y;
    }
  }
}

}  // namespace scalar

const Kernel<QuantizeRowsFn> quantize_rows_kernel = {
    "quantize_rows",
    {scalar::quantize_rows, MILLRACE_AVX2(quantize_rows), MILLRACE_AVX512(quantize_rows), nullptr, nullptr},
};

const Kernel<LinearFn> linear_w8a8_kernel = {
    "linear_w8a8",
    {scalar::linear_w8a8, MILLRACE_AVX2(linear_w8a8), MILLRACE_AVX512(linear_w8a8), nullptr, nullptr},
};

}  // namespace millrace
