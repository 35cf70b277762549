#include <limits>

#include "ops/gqa_attention_task.h"
#include "ops/gqa_tiles.simd.h"

namespace millrace::MILLRACE_ISA {
namespace {

struct Range {
  std::int64_t first, end;
};

std::int64_t least(std::int64_t a, std::int64_t b) noexcept {
  return a < b ? a : b;
}
std::int64_t most(std::int64_t a, std::int64_t b) noexcept {
  return a > b ? a : b;
}

// Those of the numbers that a row sees.
Range seen(const GqaTask& task, std::int64_t row, const Range& range) noexcept {
  const std::int64_t end = task.end + row;
  return {task.window > 0 ? most(range.first, end - task.window) : range.first, least(range.end, end)};
}

Range all_keys(const GqaTask& task) noexcept {
  return {task.runs[0].begin, task.runs[task.run_count - 1].end};
}

// Keys or values by ascending numbers.
class Reader {
 public:
  Reader(const GqaTask& task, const void* GqaRun::*part, std::int64_t row_bytes) noexcept
      : run_(task.runs), end_(task.runs + task.run_count), part_(part), row_bytes_(row_bytes) {}
  // Null behind the last.
  const char* at(std::int64_t number) noexcept {
    while (run_ != end_ && number >= run_->end) ++run_;
    return run_ == end_ ? nullptr : static_cast<const char*>(run_->*part_) + (number - run_->begin) * row_bytes_;
  }
  std::int64_t run_end() const noexcept { return run_->end; }  // of the number asked for last

 private:
  const GqaRun* run_;
  const GqaRun* end_;
  const void* GqaRun::*part_;
  std::int64_t row_bytes_;
};

template <class T>
Reader keys_of(const GqaTask& task) noexcept {
  return {task, &GqaRun::keys, task.qk_dim * static_cast<std::int64_t>(sizeof(T))};
}
template <class T>
Reader values_of(const GqaTask& task) noexcept {
  return {task, &GqaRun::values, task.v_dim * static_cast<std::int64_t>(sizeof(T))};
}

constexpr std::int64_t keys_ahead = 4 * GqaScratch::panel_keys;  // of what is multiplied, prefetched

// 16 keys from number `first` on. Those outside the range have neighbours in their places; nobody sees their scores.
template <class T>
void pack_panel(const GqaTask& task, Reader& reader, std::int64_t first, const Range& range, float* panel) noexcept {
  const char* keys[16];
  for (int i = 0; i < 16; ++i) keys[i] = reader.at(least(most(first + i, range.first), range.end - 1));
  pack_keys<T>(keys, task.qk_dim, panel);
}

template <int Panels>
void score_row(const GqaTask& task, std::int64_t row, const float* panels, float* scores, const char* ahead) noexcept {
  const float* q = task.q + row * task.q_stride;
  for_head_tiles(
      task.group, [&]<int heads>(std::int64_t head) __attribute__((always_inline)) {
        score_tile<heads, Panels>(q + head * task.qk_dim, task.qk_dim, panels, scores + head * task.stride, task.stride,
                                  head == 0 ? ahead : nullptr);
      });
}

// Products of queries and keys; the number `base`, a multiple of 16, is at scores[..][0].
template <class T>
void score_keys(const GqaTask& task, const GqaScratch& scratch, const Range& range, std::int64_t base) noexcept {
  constexpr std::int64_t step = 16 * wide;
  const std::int64_t panel_floats = 16 * task.qk_dim;
  Reader reader = keys_of<T>(task), next_keys = keys_of<T>(task), values = values_of<T>(task);
  for (std::int64_t at = range.first / 16 * 16; at < range.end; at += step) {
    const std::int64_t panels = least(wide, (range.end - at + 15) / 16), next = at + keys_ahead;
    for (std::int64_t p = 0; p < panels; ++p)
      pack_panel<T>(task, reader, at + 16 * p, range, scratch.keys + p * panel_floats);
    const char* ahead = next < range.end ? next_keys.at(next) : values.at(range.first + next - range.end);
    for (std::int64_t row = 0; row < task.rows; ++row) {
      const Range keys = seen(task, row, {most(at, range.first), least(at + step, range.end)});
      if (keys.first >= keys.end) continue;
      const std::int64_t skipped = (keys.first - at) / 16, used = (keys.end - at + 15) / 16 - skipped;
      const float* panel = scratch.keys + skipped * panel_floats;
      float* scores = scratch.scores + row * task.group * task.stride + at - base + 16 * skipped;
      used == wide ? score_row<wide>(task, row, panel, scores, ahead) : score_row<1>(task, row, panel, scores, ahead);
      ahead = nullptr;
    }
  }
}

Lanes rounded(const Lanes& value, Rounding rounding) noexcept {
  return rounding == Rounding::bf16 ? round_bf16(value) : value;
}

// Products of one query, of which those in `range` (places in `scores`) count, become scaled scores; the others become
// -infinity. Returns the largest, or `least_largest`.
float scale_scores(const GqaTask& task, float* scores, const Range& range, float least_largest) noexcept {
  const Lanes scale = Lanes::broadcast(task.scale);
  Lanes largest = Lanes::broadcast(least_largest);
  for (std::int64_t at = range.first / 16 * 16; at < range.end; at += 16) {
    Lanes score = rounded(rounded(Lanes::load(scores + at), task.rounding) * scale, task.rounding);
    if (at < range.first || at + 16 > range.end)
      score = only(score, range.first - at, range.end - at, -std::numeric_limits<float>::infinity());
    score.store(scores + at);
    largest = max(score, largest);
  }
  return largest.largest();
}

// Scores become exp(score - largest), 0 outside the range. Returns their sum.
float weigh_scores(float* scores, const Range& range, float largest, Rounding rounding) noexcept {
  const Lanes shift = Lanes::broadcast(largest);
  Lanes sum = Lanes::zero();
  for (std::int64_t at = range.first / 16 * 16; at < range.end; at += 16) {
    Lanes weight = exp(rounded(Lanes::load(scores + at) - shift, rounding));
    if (at < range.first || at + 16 > range.end) weight = only(weight, range.first - at, range.end - at, 0);
    weight.store(scores + at);
    sum = sum + weight;
  }
  return sum.sum();
}

const float* widened_values(const float* values, std::int64_t, float*) noexcept {
  return values;
}
const float* widened_values(const std::uint16_t* values, std::int64_t count, float* target) noexcept {
  std::int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    Lanes::load_bf16(values + i).store(target + i);
    Lanes::load_bf16(values + i + 16).store(target + i + 16);
  }
  for (; i < count; i += 16) Lanes::load_bf16_first(values + i, count - i).store_first(target + i, count - i);
  return target;
}

// Adds the weighted values of the range to the sums of every query.
template <class T>
void add_values(const GqaTask& task, const GqaScratch& scratch, const Range& range, std::int64_t base,
                float* out) noexcept {
  const std::int64_t dim = task.v_dim;
  Reader reader = values_of<T>(task), next_values = values_of<T>(task), keys_behind = keys_of<T>(task);
  for (std::int64_t at = range.first, behind; at < range.end; at = behind) {
    const char* source = reader.at(at);
    behind = least(least(range.end, reader.run_end()), at + GqaScratch::panel_keys);
    const float* values = widened_values(reinterpret_cast<const T*>(source), (behind - at) * dim, scratch.values);
    const char* ahead = at + keys_ahead < range.end ? next_values.at(at + keys_ahead) : keys_behind.at(at + keys_ahead);
    for (std::int64_t row = 0; row < task.rows; ++row) {
      const Range keys = seen(task, row, {at, behind});
      if (keys.first >= keys.end) continue;
      const float* weights = scratch.scores + row * task.group * task.stride + keys.first - base;
      for_head_tiles(
          task.group, [&]<int heads>(std::int64_t head) __attribute__((always_inline)) {
            weigh_heads<heads>(weights + head * task.stride, task.stride, values + (keys.first - at) * dim,
                               keys.end - keys.first, dim, out + (row * task.group + head) * dim,
                               head == 0 ? ahead : nullptr);
          });
      ahead = nullptr;
    }
  }
}

void clear(float* values, std::int64_t count) noexcept {
  for (std::int64_t i = 0; i < count; i += 16) Lanes::zero().store_first(values + i, count - i);
}

float exp_of(float value) noexcept {
  return exp(Lanes::broadcast(value)).first();
}

// Takes the sums of one query into `total`, `out` being null for a sink, which has no value.
void merge(float largest, float sum, const float* out, const GqaSums& total, std::int64_t query,
           std::int64_t dim) noexcept {
  const float before = total.largest[query], greatest = largest > before ? largest : before;
  const Lanes kept = Lanes::broadcast(exp_of(before - greatest)), added = Lanes::broadcast(exp_of(largest - greatest));
  total.largest[query] = greatest;
  total.sum[query] = fma(Lanes::broadcast(sum), added, Lanes::broadcast(total.sum[query]) * kept).first();
  float* target = total.out + query * dim;
  for (std::int64_t e = 0; e < dim; e += 16) {
    const Lanes old = Lanes::load_first(target + e, dim - e) * kept;
    (out == nullptr ? old : fma(Lanes::load_first(out + e, dim - e), added, old)).store_first(target + e, dim - e);
  }
}

void copy(const GqaSums& from, std::int64_t from_query, const GqaSums& to, std::int64_t query,
          std::int64_t dim) noexcept {
  to.largest[query] = from.largest[from_query];
  to.sum[query] = from.sum[from_query];
  std::memcpy(to.out + query * dim, from.out + from_query * dim, static_cast<std::size_t>(dim) * sizeof(float));
}

void finish(const GqaSums& total, std::int64_t query, const float* sink, std::int64_t dim, float* out) noexcept {
  if (sink != nullptr) merge(*sink, 1, nullptr, total, query, dim);
  const Lanes denominator = Lanes::broadcast(total.sum[query]);
  for (std::int64_t e = 0; e < dim; e += 16)
    (Lanes::load_first(total.out + query * dim + e, dim - e) / denominator).store_first(out + e, dim - e);
}

float* output_of(const GqaTask& task, std::int64_t query) noexcept {
  return task.out + query / task.group * task.out_stride + query % task.group * task.v_dim;
}
const float* sink_of(const GqaTask& task, std::int64_t query) noexcept {
  return task.sinks != nullptr ? task.sinks + query % task.group : nullptr;
}

// The keys of one block, `range`, for every query that sees any of them.
template <class T>
void attend_block(const GqaTask& task, const GqaScratch& scratch, const Range& range, const GqaSums& sums) noexcept {
  const std::int64_t base = range.first / 16 * 16;
  score_keys<T>(task, scratch, range, base);
  for (std::int64_t query = 0; query < task.queries(); ++query) {
    const Range keys = seen(task, query / task.group, range);
    if (keys.first >= keys.end) continue;
    const Range places = {keys.first - base, keys.end - base};
    float* scores = scratch.scores + query * task.stride;
    sums.largest[query] = scale_scores(task, scores, places, -std::numeric_limits<float>::infinity());
    sums.sum[query] = weigh_scores(scores, places, sums.largest[query], Rounding::none);
  }
  clear(sums.out, task.queries() * task.v_dim);
  add_values<T>(task, scratch, range, base, sums.out);
}

template <class T>
void attend(const GqaTask& task, const GqaScratch& scratch) noexcept {
  const Range all = all_keys(task);
  for (std::int64_t block = all.first / gqa_block; block * gqa_block < all.end; ++block) {
    const Range range = {most(all.first, block * gqa_block), least(all.end, (block + 1) * gqa_block)};
    attend_block<T>(task, scratch, range, scratch.block);
    for (std::int64_t query = 0; query < task.queries(); ++query) {
      const std::int64_t row = query / task.group;
      const Range keys = seen(task, row, range);
      if (keys.first >= keys.end) continue;
      if (seen(task, row, all).first / gqa_block == block)
        copy(scratch.block, query, scratch.total, query, task.v_dim);
      else
        merge(scratch.block.largest[query], scratch.block.sum[query], scratch.block.out + query * task.v_dim,
              scratch.total, query, task.v_dim);
    }
  }
  for (std::int64_t query = 0; query < task.queries(); ++query)
    finish(scratch.total, query, sink_of(task, query), task.v_dim, output_of(task, query));
}

// With Rounding::bf16, whose weights need the denominator of all keys.
template <class T>
void attend_rounded(const GqaTask& task, const GqaScratch& scratch) noexcept {
  const Range all = all_keys(task);
  const std::int64_t base = all.first / 16 * 16, dim = task.v_dim;
  score_keys<T>(task, scratch, all, base);
  for (std::int64_t query = 0; query < task.queries(); ++query) {
    const float* sink = sink_of(task, query);
    const Range keys = seen(task, query / task.group, all), places = {keys.first - base, keys.end - base};
    float* scores = scratch.scores + query * task.stride;
    const float largest =
        scale_scores(task, scores, places, sink != nullptr ? *sink : -std::numeric_limits<float>::infinity());
    float sum = weigh_scores(scores, places, largest, task.shift);
    if (sink != nullptr) sum += exp(rounded(Lanes::broadcast(*sink - largest), task.shift)).first();
    scratch.total.largest[query] = largest;
    scratch.total.sum[query] = sum;
    const Lanes denominator = Lanes::broadcast(sum);
    for (std::int64_t at = places.first / 16 * 16; at < places.end; at += 16)
      round_bf16(Lanes::load(scores + at) / denominator).store(scores + at);
  }
  clear(scratch.total.out, task.queries() * dim);
  add_values<T>(task, scratch, all, base, scratch.total.out);
  for (std::int64_t query = 0; query < task.queries(); ++query)
    for (std::int64_t e = 0; e < dim; e += 16)
      round_bf16(Lanes::load_first(scratch.total.out + query * dim + e, dim - e))
          .store_first(output_of(task, query) + e, dim - e);
}

template <class T>
void attend_rows(const GqaTask& task) noexcept {
  const GqaScratch scratch(task);
  if (task.block_sums != nullptr)
    attend_block<T>(task, scratch, all_keys(task), GqaSums(task.block_sums, task.queries()));
  else if (task.rounding == Rounding::bf16)
    attend_rounded<T>(task, scratch);
  else
    attend<T>(task, scratch);
}

}  // namespace

void gqa_attention(const GqaTask& task) noexcept {
  task.bf16 ? attend_rows<std::uint16_t>(task) : attend_rows<float>(task);
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

}  // namespace millrace::MILLRACE_ISA
