#include "ops/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(RopeFn, rope)

namespace {

float rounded(float value, Rounding rounding) noexcept {
  return rounding == Rounding::bf16 ? round_to_bf16(value) : value;
}

void check(const RopeParameters& p) {
  require(p.rotary_dim > 0 && p.rotary_dim % 2 == 0 && p.rotary_dim <= 65536, Errc::bad_argument,
          "rope over {} dimensions, expected an even number from 2 to 65536", p.rotary_dim);
  require(std::isfinite(p.theta) && p.theta > 1, Errc::bad_argument, "rope theta is {}, expected more than 1", p.theta);
  require(std::isfinite(p.factor) && p.factor > 0, Errc::bad_argument, "rope factor is {}, expected more than 0",
          p.factor);
  require(std::isfinite(p.attention_factor) && p.attention_factor > 0, Errc::bad_argument,
          "rope attention_factor is {}, expected more than 0", p.attention_factor);
  if (p.scaling != RopeScaling::yarn) return;
  require(p.original_positions > 0, Errc::bad_argument,
          "yarn rope with original_max_position_embeddings {}, expected more than 0", p.original_positions);
  require(std::isfinite(p.beta_fast) && std::isfinite(p.beta_slow) && p.beta_fast > 0 && p.beta_slow > 0,
          Errc::bad_argument, "yarn rope with beta_fast {} and beta_slow {}, expected more than 0", p.beta_fast,
          p.beta_slow);
}

// High frequencies stay, low ones are divided by the factor, those between are blended.
void scale_yarn(const RopeParameters& p, std::vector<float>& frequencies) {
  const auto dim = static_cast<double>(p.rotary_dim);
  const auto pair_that_turns = [&](double times) {
    return dim * std::log(static_cast<double>(p.original_positions) / (times * 2 * std::numbers::pi)) /
           (2 * std::log(p.theta));
  };
  const double low = std::max(std::floor(pair_that_turns(p.beta_fast)), 0.0);
  const double high = std::min(std::ceil(pair_that_turns(p.beta_slow)), dim - 1);
  const auto length = static_cast<float>(high == low ? 0.001 : high - low);
  const auto factor = static_cast<float>(p.factor);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float ramp = std::clamp((static_cast<float>(i) - static_cast<float>(low)) / length, 0.0f, 1.0f);
    const float scaled = frequencies[i] / factor * ramp;
    frequencies[i] = scaled + frequencies[i] * (1.0f - ramp);
  }
}

}  // namespace

namespace scalar {

void rope(const float* x, const float* cosines, const float* sines, float* y, std::int64_t rows, std::int64_t heads,
          std::int64_t dim, std::int64_t half, Rounding rounding, Rounding output) noexcept {
  for (std::int64_t head = 0; head < rows * heads; ++head, x += dim, y += dim) {
    const float* cosine = cosines + head / heads * half;
    const float* sine = sines + head / heads * half;
    for (std::int64_t i = 0; i < half; ++i) {
      const float a = x[i], b = x[half + i], c = cosine[i], s = sine[i];
      if (rounding == Rounding::bf16) {
        y[i] = round_to_bf16(round_to_bf16(a * c) - round_to_bf16(b * s));
        y[half + i] = round_to_bf16(round_to_bf16(b * c) + round_to_bf16(a * s));
      } else {
        y[i] = rounded(std::fma(a, c, -(b * s)), output);
        y[half + i] = rounded(std::fma(b, c, a * s), output);
      }
    }
    for (std::int64_t e = 2 * half; e < dim; ++e) y[e] = rounded(x[e], output);
  }
}

}  // namespace scalar

const Kernel<RopeFn> rope_kernel = {
    "rope",
    {scalar::rope, MILLRACE_AVX2(rope), MILLRACE_AVX512(rope), nullptr, nullptr},
};

RopeTable::RopeTable(const RopeParameters& p) : attention_factor(static_cast<float>(p.attention_factor)) {
  check(p);
  const auto dim = static_cast<float>(p.rotary_dim);
  for (std::int64_t i = 0; i < p.rotary_dim; i += 2)
    inverse_frequencies.push_back(1.0f / std::pow(static_cast<float>(p.theta), static_cast<float>(i) / dim));
  if (p.scaling == RopeScaling::linear)
    for (float& frequency : inverse_frequencies) frequency /= static_cast<float>(p.factor);
  if (p.scaling == RopeScaling::yarn) scale_yarn(p, inverse_frequencies);
}

Rope::Rope(RopeTable table, std::int64_t heads, std::int64_t dim, Rounding rounding, Rounding output)
    : table_(std::move(table)), heads_(heads), dim_(dim), rounding_(rounding), output_(output) {
  require(heads > 0 && dim > 0, Errc::bad_argument, "rope of {} heads of {} dimensions", heads, dim);
  require(2 * std::ssize(table_.inverse_frequencies) <= dim, Errc::bad_argument,
          "rope over {} dimensions of heads of {}", 2 * table_.inverse_frequencies.size(), dim);
}

void Rope::fill_tables(std::int32_t position, float* cosines, float* sines) const {
  for (std::size_t i = 0; i < table_.inverse_frequencies.size(); ++i) {
    const float angle = static_cast<float>(position) * table_.inverse_frequencies[i];
    const auto cosine = static_cast<float>(std::cos(double{angle})), sine = static_cast<float>(std::sin(double{angle}));
    cosines[i] = rounded(cosine * table_.attention_factor, rounding_);
    sines[i] = rounded(sine * table_.attention_factor, rounding_);
  }
}

void Rope::run(const StepContext& context) const {
  const auto half = std::ssize(table_.inverse_frequencies);
  const std::int64_t row_elements = heads_ * dim_;
  auto* cosines = reinterpret_cast<float*>(context.scratch.data());
  float* sines = cosines + context.rows * half;
  RopeFn* kernel = rope_kernel.best();
  context.parallel.for_range(context.rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row)
      fill_tables(context.batch.positions[static_cast<std::size_t>(row)], cosines + row * half, sines + row * half);
    kernel(context.input(0) + begin * row_elements, cosines + begin * half, sines + begin * half,
           context.output(0) + begin * row_elements, end - begin, heads_, dim_, half, rounding_, output_);
  });
}

std::size_t Rope::scratch_bytes(std::int64_t rows, int) const {
  return static_cast<std::size_t>(rows) * 2 * table_.inverse_frequencies.size() * sizeof(float);
}

Cost Rope::cost(const StepContext& context) const {
  const double heads = static_cast<double>(context.rows) * static_cast<double>(heads_);
  return {.activation_bytes = 8 * heads * static_cast<double>(dim_),
          .flops = 6 * heads * static_cast<double>(table_.inverse_frequencies.size())};
}

}  // namespace millrace
