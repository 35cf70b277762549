#include <limits>

#include "ops/gqa_attention_task.h"
#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {
namespace {

// A tile of independent sums that the registers hold: 16 on AVX-512 (32 registers), 4 pairs on AVX2 (16 registers).
constexpr int wide = Lanes::parts == 1 ? 4 : 2;
// Rows whose values stay in the first-level cache while every query head weighs them.
constexpr std::int64_t value_rows = 64;

Lanes load(const float* source) noexcept {
  return Lanes::load(source);
}
Lanes load(const std::uint16_t* source) noexcept {
  return Lanes::load_bf16(source);
}
Lanes load_first(const float* source, std::int64_t count) noexcept {
  return Lanes::load_first(source, count);
}
Lanes load_first(const std::uint16_t* source, std::int64_t count) noexcept {
  return Lanes::load_bf16_first(source, count);
}

Lanes rounded(const Lanes& value, Rounding rounding) noexcept {
  return rounding == Rounding::bf16 ? round_bf16(value) : value;
}

template <int Heads, int Keys, class T>
void score_tile(const float* q, const T* keys, std::int64_t dim, float* scores, std::int64_t stride) noexcept {
  Lanes sum[Heads][Keys];
  for (int h = 0; h < Heads; ++h)
    for (int k = 0; k < Keys; ++k) sum[h][k] = Lanes::zero();
  std::int64_t e = 0;
  for (; e + 16 <= dim; e += 16) {
    Lanes key[Keys];
    for (int k = 0; k < Keys; ++k) key[k] = load(keys + k * dim + e);
    for (int h = 0; h < Heads; ++h) {
      const Lanes query = Lanes::load(q + h * dim + e);
      for (int k = 0; k < Keys; ++k) sum[h][k] = fma(query, key[k], sum[h][k]);
    }
  }
  if (e < dim)
    for (int h = 0; h < Heads; ++h)
      for (int k = 0; k < Keys; ++k)
        sum[h][k] =
            fma(Lanes::load_first(q + h * dim + e, dim - e), load_first(keys + k * dim + e, dim - e), sum[h][k]);
  for (int h = 0; h < Heads; ++h)
    for (int k = 0; k < Keys; ++k) scores[h * stride + k] = sum[h][k].sum();
}

template <int Keys, class T>
void score_keys(const GqaTask& task, const T* keys, float* scores) noexcept {
  std::int64_t h = 0;
  for (; h + wide <= task.group; h += wide)
    score_tile<wide, Keys>(task.q + h * task.qk_dim, keys, task.qk_dim, scores + h * task.stride, task.stride);
  for (; h < task.group; ++h)
    score_tile<1, Keys>(task.q + h * task.qk_dim, keys, task.qk_dim, scores + h * task.stride, task.stride);
}

template <class T>
void score_run(const GqaTask& task, const GqaRun& run, float* scores) noexcept {
  const T* keys = static_cast<const T*>(run.keys);
  std::int64_t row = 0;
  for (; row + wide <= run.rows; row += wide) score_keys<wide>(task, keys + row * task.qk_dim, scores + row);
  for (; row < run.rows; ++row) score_keys<1>(task, keys + row * task.qk_dim, scores + row);
}

// Scores become weights; returns what the weighted sum is still to be divided by.
Lanes softmax(const GqaTask& task, const float* sink, float* scores) noexcept {
  const std::int64_t padded = (task.visible + 15) / 16 * 16;
  for (std::int64_t j = task.visible; j < padded; ++j) scores[j] = scores[0];
  const Lanes scale = Lanes::broadcast(task.scale);
  Lanes most = Lanes::broadcast(sink != nullptr ? *sink : -std::numeric_limits<float>::infinity());
  for (std::int64_t j = 0; j < padded; j += 16) {
    const Lanes score = rounded(rounded(Lanes::load(scores + j), task.rounding) * scale, task.rounding);
    score.store(scores + j);
    most = max(score, most);
  }
  const Lanes largest = Lanes::broadcast(most.largest());
  Lanes sum = Lanes::zero();
  for (std::int64_t j = 0; j < padded; j += 16) {
    exp(rounded(Lanes::load(scores + j) - largest, task.shift)).store(scores + j);
    sum = sum + Lanes::load_first(scores + j, task.visible - j);
  }
  Lanes denominator = Lanes::broadcast(sum.sum());
  if (sink != nullptr) denominator = denominator + exp(rounded(Lanes::broadcast(*sink) - largest, task.shift));
  if (task.rounding == Rounding::none) return denominator;
  for (std::int64_t j = 0; j < padded; j += 16) round_bf16(Lanes::load(scores + j) / denominator).store(scores + j);
  return Lanes::broadcast(1.0f);
}

template <int Heads, int Blocks, class T>
void weigh_tile(const float* weights, std::int64_t stride, const T* values, std::int64_t rows, std::int64_t dim,
                float* out) noexcept {
  Lanes sum[Heads][Blocks];
  for (int h = 0; h < Heads; ++h)
    for (int b = 0; b < Blocks; ++b) sum[h][b] = Lanes::load(out + h * dim + 16 * b);
  for (std::int64_t row = 0; row < rows; ++row, values += dim) {
    Lanes value[Blocks];
    for (int b = 0; b < Blocks; ++b) value[b] = load(values + 16 * b);
    for (int h = 0; h < Heads; ++h) {
      const Lanes weight = Lanes::broadcast(weights[h * stride + row]);
      for (int b = 0; b < Blocks; ++b) sum[h][b] = fma(weight, value[b], sum[h][b]);
    }
  }
  for (int h = 0; h < Heads; ++h)
    for (int b = 0; b < Blocks; ++b) sum[h][b].store(out + h * dim + 16 * b);
}

// The last `count` < 16 dimensions.
template <class T>
void weigh_rest(const float* weights, const T* values, std::int64_t rows, std::int64_t dim, std::int64_t count,
                float* out) noexcept {
  Lanes sum = Lanes::load_first(out, count);
  for (std::int64_t row = 0; row < rows; ++row)
    sum = fma(Lanes::broadcast(weights[row]), load_first(values + row * dim, count), sum);
  sum.store_first(out, count);
}

template <int Heads, class T>
void weigh_heads(const float* weights, std::int64_t stride, const T* values, std::int64_t rows, std::int64_t dim,
                 float* out) noexcept {
  std::int64_t e = 0;
  for (; e + 16 * wide <= dim; e += 16 * wide) weigh_tile<Heads, wide>(weights, stride, values + e, rows, dim, out + e);
  for (; e + 16 <= dim; e += 16) weigh_tile<Heads, 1>(weights, stride, values + e, rows, dim, out + e);
  if (e < dim)
    for (int h = 0; h < Heads; ++h) weigh_rest(weights + h * stride, values + e, rows, dim, dim - e, out + h * dim + e);
}

template <class T>
void weigh_run(const GqaTask& task, const GqaRun& run, const float* weights) noexcept {
  const T* values = static_cast<const T*>(run.values);
  const std::int64_t dim = task.v_dim, stride = task.stride;
  for (std::int64_t row = 0; row < run.rows; row += value_rows) {
    const std::int64_t rows = run.rows - row < value_rows ? run.rows - row : value_rows;
    std::int64_t h = 0;
    for (; h + wide <= task.group; h += wide)
      weigh_heads<wide>(weights + h * stride + row, stride, values + row * dim, rows, dim, task.out + h * dim);
    for (; h < task.group; ++h)
      weigh_heads<1>(weights + h * stride + row, stride, values + row * dim, rows, dim, task.out + h * dim);
  }
}

void finish(const Lanes& denominator, Rounding rounding, float* out, std::int64_t dim) noexcept {
  for (std::int64_t e = 0; e < dim; e += 16)
    rounded(Lanes::load_first(out + e, dim - e) / denominator, rounding).store_first(out + e, dim - e);
}

template <class T>
void attend_group(const GqaTask& task) noexcept {
  std::int64_t row = 0;
  for (std::int64_t r = 0; r < task.run_count; row += task.runs[r].rows, ++r)
    score_run<T>(task, task.runs[r], task.scores + row);
  for (std::int64_t h = 0; h < task.group; ++h) {
    const float* sink = task.sinks != nullptr ? task.sinks + h : nullptr;
    softmax(task, sink, task.scores + h * task.stride).store_first(task.denominators + h, 1);
  }
  for (std::int64_t e = 0; e < task.group * task.v_dim; e += 16)
    Lanes::zero().store_first(task.out + e, task.group * task.v_dim - e);
  row = 0;
  for (std::int64_t r = 0; r < task.run_count; row += task.runs[r].rows, ++r)
    weigh_run<T>(task, task.runs[r], task.scores + row);
  for (std::int64_t h = 0; h < task.group; ++h)
    finish(Lanes::broadcast(task.denominators[h]), task.rounding, task.out + h * task.v_dim, task.v_dim);
}

}  // namespace

void gqa_attention(const GqaTask& task) noexcept {
  task.bf16 ? attend_group<std::uint16_t>(task) : attend_group<float>(task);
}

}  // namespace millrace::MILLRACE_ISA
