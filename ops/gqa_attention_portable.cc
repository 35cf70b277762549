// The portable kernels of gqa_attention, as plain as the formula, and the choice among the tiers.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/gqa_attention.h"
#include "ops/math.h"
#include "runtime/bfloat16.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(GqaAttentionFn, gqa_attention)
MILLRACE_DECLARE_TIERS(GqaMergeFn, gqa_merge)

namespace {

float rounded(float value, Rounding rounding) noexcept {
  return rounding == Rounding::bf16 ? round_to_bf16(value) : value;
}

float widened(float value) noexcept {
  return value;
}
float widened(Bfloat16 value) noexcept {
  return bf16_to_f32(value);
}

float tree_sum(float (&lane)[16]) noexcept {
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

// body(run, key) for each key of the task with a number in [first, end), `key` counting from the run's first.
template <class Body>
void for_keys(const GqaTask& task, std::int64_t first, std::int64_t end, Body&& body) noexcept {
  for (std::int64_t r = 0; r < task.run_count; ++r) {
    const GqaRun& run = task.runs[r];
    for (std::int64_t n = std::max(first, run.begin); n < std::min(end, run.end); ++n) body(run, n - run.begin);
  }
}

template <class T>
float score(const GqaTask& task, const float* q, const GqaRun& run, std::int64_t key) noexcept {
  constexpr std::int64_t size = sizeof(T), step = KeyPanels::rows * 4 / size, of_word = 4 / size;
  const T* k = static_cast<const T*>(run.keys) + KeyPanels::element(task.qk_dim, size, run.place + key, 0);
  float sum = 0;
  for (std::int64_t e = 0; e < task.qk_dim; ++e)
    sum = std::fma(q[e], widened(k[e / of_word * step + e % of_word]), sum);
  const float scaled = rounded(rounded(sum, task.rounding) * task.scale, task.rounding);
  return run.bias == nullptr ? scaled : rounded(scaled + rounded(run.bias[key], task.rounding), task.rounding);
}

template <class T>
void add_value(const GqaTask& task, float weight, const GqaRun& run, std::int64_t key, float* out) noexcept {
  const T* v = static_cast<const T*>(run.values) + key * task.v_dim;
  for (std::int64_t e = 0; e < task.v_dim; ++e) out[e] = std::fma(weight, widened(v[e]), out[e]);
}

// The keys with numbers in [first, end), all of one block. Returns whether there are any.
template <class T>
bool attend_block(const GqaTask& task, const float* q, std::int64_t first, std::int64_t end, float* scores,
                  const GqaSums& sums, std::int64_t query) noexcept {
  std::int64_t count = 0;
  float largest = -std::numeric_limits<float>::infinity();
  for_keys(task, first, end, [&](const GqaRun& run, std::int64_t key) {
    scores[count] = score<T>(task, q, run, key);
    if (scores[count] > largest) largest = scores[count];
    ++count;
  });
  float lane[16] = {};
  float* out = sums.out + query * task.v_dim;
  std::fill_n(out, task.v_dim, 0.0f);
  const float* next = scores;
  for_keys(task, first, end, [&](const GqaRun& run, std::int64_t key) {
    const float weight = exp_f32(*next++ - largest);
    lane[(run.begin + key) % 16] += weight;
    add_value<T>(task, weight, run, key, out);
  });
  sums.largest[query] = largest;
  sums.sum[query] = tree_sum(lane);
  return count > 0;
}

// `out` null: zeros.
void merge(float largest, float sum, const float* out, const GqaSums& total, std::int64_t query,
           std::int64_t dim) noexcept {
  const float before = total.largest[query], most = largest > before ? largest : before;
  const float kept = exp_f32(before - most), added = exp_f32(largest - most);
  total.largest[query] = most;
  total.sum[query] = std::fma(sum, added, total.sum[query] * kept);
  float* target = total.out + query * dim;
  for (std::int64_t e = 0; e < dim; ++e)
    target[e] = out == nullptr ? target[e] * kept : std::fma(out[e], added, target[e] * kept);
}

void copy(const GqaSums& from, std::int64_t from_query, const GqaSums& to, std::int64_t query,
          std::int64_t dim) noexcept {
  to.largest[query] = from.largest[from_query];
  to.sum[query] = from.sum[from_query];
  std::copy_n(from.out + from_query * dim, dim, to.out + query * dim);
}

void finish(const GqaSums& total, std::int64_t query, const float* sink, std::int64_t dim, float* out) noexcept {
  if (sink != nullptr) merge(*sink, 1, nullptr, total, query, dim);
  for (std::int64_t e = 0; e < dim; ++e) out[e] = total.out[query * dim + e] / total.sum[query];
}

// One query over the keys with numbers in [first, end).
template <class T>
void attend(const GqaTask& task, const GqaScratch& scratch, const float* q, const float* sink, std::int64_t first,
            std::int64_t end, std::int64_t query, float* out) noexcept {
  bool any = false;
  for (std::int64_t block = first / gqa_block; block * gqa_block < end; ++block) {
    const std::int64_t begin = std::max(first, block * gqa_block), behind = std::min(end, (block + 1) * gqa_block);
    if (!attend_block<T>(task, q, begin, behind, scratch.scores, scratch.block, query)) continue;
    if (any)
      merge(scratch.block.largest[query], scratch.block.sum[query], scratch.block.out + query * task.v_dim,
            scratch.total, query, task.v_dim);
    else
      copy(scratch.block, query, scratch.total, query, task.v_dim);
    any = true;
  }
  finish(scratch.total, query, sink, task.v_dim, out);
}

// With Rounding::bf16, whose weights need the denominator of all keys.
template <class T>
void attend_rounded(const GqaTask& task, const GqaScratch& scratch, const float* q, const float* sink,
                    std::int64_t first, std::int64_t end, std::int64_t query, float* out) noexcept {
  float* next = scratch.scores;
  float largest = sink != nullptr ? *sink : -std::numeric_limits<float>::infinity();
  for_keys(task, first, end, [&](const GqaRun& run, std::int64_t key) {
    *next = score<T>(task, q, run, key);
    if (*next > largest) largest = *next;
    ++next;
  });
  float lane[16] = {};
  next = scratch.scores;
  for_keys(task, first, end, [&](const GqaRun& run, std::int64_t key) {
    *next = exp_f32(rounded(*next - largest, task.shift));
    lane[(run.begin + key) % 16] += *next++;
  });
  float denominator = tree_sum(lane);
  if (sink != nullptr) denominator += exp_f32(rounded(*sink - largest, task.shift));
  scratch.total.largest[query] = largest;
  scratch.total.sum[query] = denominator;
  std::fill_n(out, task.v_dim, 0.0f);
  next = scratch.scores;
  for_keys(task, first, end, [&](const GqaRun& run, std::int64_t key) {
    add_value<T>(task, round_to_bf16(*next++ / denominator), run, key, out);
  });
  for (std::int64_t e = 0; e < task.v_dim; ++e) out[e] = round_to_bf16(out[e]);
}

template <class T>
void attend_rows(const GqaTask& task) noexcept {
  const GqaScratch scratch(task);
  const std::int64_t begin = task.runs[0].begin, behind = task.runs[task.run_count - 1].end;
  for (std::int64_t query = 0; query < task.queries(); ++query) {
    const std::int64_t row = query / task.group, head = query % task.group;
    const std::int64_t end = std::min(behind, task.end + row);
    const std::int64_t first = task.window > 0 ? std::max(begin, task.end + row - task.window) : begin;
    const float* q = task.q + row * task.q_stride + head * task.qk_dim;
    const float* sink = task.sinks != nullptr ? task.sinks + head : nullptr;
    float* out = task.out + row * task.out_stride + head * task.v_dim;
    if (task.block_sums != nullptr)
      attend_block<T>(task, q, first, end, scratch.scores, GqaSums(task.block_sums, task.queries()), query);
    else if (task.rounding == Rounding::bf16)
      attend_rounded<T>(task, scratch, q, sink, first, end, query, out);
    else
      attend<T>(task, scratch, q, sink, first, end, query, out);
  }
}

}  // namespace

namespace scalar {

void gqa_attention(const GqaTask& task) noexcept {
  task.bf16 ? attend_rows<Bfloat16>(task) : attend_rows<float>(task);
}

void gqa_merge(const GqaMerge& task) noexcept {
  const GqaSums total(task.scratch, task.group);
  for (std::int64_t head = 0; head < task.group; ++head) {
    for (std::int64_t block = 0; block < task.block_count; ++block) {
      const GqaSums sums(const_cast<float*>(task.blocks) + block * task.block_stride, task.queries);
      const std::int64_t query = task.first + head;
      if (block == 0)
        copy(sums, query, total, head, task.v_dim);
      else
        merge(sums.largest[query], sums.sum[query], sums.out + query * task.v_dim, total, head, task.v_dim);
    }
    finish(total, head, task.sinks != nullptr ? task.sinks + head : nullptr, task.v_dim, task.out + head * task.v_dim);
  }
}

}  // namespace scalar

const Kernel<GqaAttentionFn> gqa_attention_kernel = {
    "gqa_attention",
    {scalar::gqa_attention, MILLRACE_AVX2(gqa_attention), MILLRACE_AVX512(gqa_attention), nullptr, nullptr},
};

const Kernel<GqaMergeFn> gqa_merge_kernel = {
    "gqa_merge",
    {scalar::gqa_merge, MILLRACE_AVX2(gqa_merge), MILLRACE_AVX512(gqa_merge), nullptr, nullptr},
};

void gqa_probabilities(const GqaTask& task) noexcept {
  const GqaScratch scratch(task);
  for (std::int64_t head = 0; head < task.group; ++head) {
    float* next = scratch.scores + head * task.stride;
    for_keys(task, 0, std::numeric_limits<std::int64_t>::max(), [&](const GqaRun& run, std::int64_t key) {
      const float* q = task.q + head * task.qk_dim;
      const float s = task.bf16 ? score<Bfloat16>(task, q, run, key) : score<float>(task, q, run, key);
      const float weight = exp_f32(rounded(s - scratch.total.largest[head], task.shift));
      *next++ = rounded(weight / scratch.total.sum[head], task.rounding);
    });
  }
}

}  // namespace millrace
