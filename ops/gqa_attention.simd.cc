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

// body(run, those of its keys that are in the range)
template <class Body>
void for_runs(const GqaTask& task, const Range& range, Body&& body) noexcept {
  for (const GqaRun* run = task.runs; run < task.runs + task.run_count; ++run) {
    const Range part = {most(range.first, run->begin), least(range.end, run->end)};
    if (part.first < part.end) body(*run, part);
  }
}

// Keys of one row are widened on the way, those of several for all.
template <class T>
constexpr bool widened_before(const GqaTask& task) noexcept {
  return sizeof(T) == 2 && task.rows > 1;
}

// Products of a row's queries with the keys of panels in fp32, of whose scores those of lanes [first, end) are written.
void score_row(const GqaTask& task, const float* q, const float* keys, std::int64_t panels, const Range& lanes,
               float* scores, Ahead* ahead) noexcept {
  const std::int64_t dim = task.qk_dim, stride = task.stride;
  for_head_tiles(
      task.group, [&]<int heads>(std::int64_t head) __attribute__((always_inline)) {
        Ahead* of_tile = head == 0 ? ahead : nullptr;
        const float* own_q = q + head * dim;
        float* target = scores + head * stride;
        if (lanes.first == 0 && lanes.end == 16 * panels)
          return score_panels<heads>(own_q, dim, keys, panels, target, stride, of_tile);
        for (std::int64_t p = 0; p < panels; ++p)
          score_part<heads>(own_q, dim, keys + p * 16 * dim, most(0, lanes.first - 16 * p),
                            least(16, lanes.end - 16 * p), target + 16 * p, stride, of_tile);
      });
}

// Products of the queries of several rows with the keys of one or two panels in fp32, the first of which has the number
// `number`; those in the range count.
void score_rows(const GqaTask& task, const float* keys, std::int64_t number, const Range& range, float* scores,
                Ahead* ahead) noexcept {
  for (std::int64_t row = 0; row < task.rows; ++row, scores += task.group * task.stride) {
    const Range visible = seen(task, row, range);
    if (visible.first >= visible.end) continue;
    const std::int64_t skipped = (visible.first - number) / 16, used = (visible.end - number + 15) / 16 - skipped;
    const std::int64_t first = number + 16 * skipped, end = least(range.end, first + 16 * used);
    const Range lanes = {most(0, range.first - first), end - first};
    score_row(task, task.q + row * task.q_stride, keys + skipped * 16 * task.qk_dim, used, lanes, scores + 16 * skipped,
              ahead);
    ahead = nullptr;
  }
}

// The same of a run's keys, whose panels begin at `keys`, the first of them with the number `number`.
template <class T>
void score_run(const GqaTask& task, const GqaScratch& scratch, const T* keys, std::int64_t number, const Range& range,
               float* scores, Ahead& ahead) noexcept {
  const std::int64_t dim = task.qk_dim, panel = KeyPanels::panel_bytes(dim, sizeof(T)) / sizeof(T);
  std::int64_t panels = 1;
  for (; number < range.end; number += 16 * panels, keys += panels * panel, scores += 16 * panels) {
    panels = number + 16 < range.end ? wide : 1;
    const Range of_panels = {most(number, range.first), least(number + 16 * panels, range.end)};
    if constexpr (sizeof(T) == 4) {
      score_rows(task, keys, number, of_panels, scores, &ahead);
    } else {
      for (std::int64_t p = 0; p < panels; ++p) widen_panel(keys + p * panel, dim, scratch.keys + p * 16 * dim);
      score_rows(task, scratch.keys, number, of_panels, scores, &ahead);
    }
  }
}

// The same for a task of one row, which sees the whole range.
template <class T>
void score_run_of_row(const GqaTask& task, const T* keys, std::int64_t number, const Range& range, float* scores,
                      Ahead& ahead) noexcept {
  const std::int64_t dim = task.qk_dim, panel = KeyPanels::panel_bytes(dim, sizeof(T)) / sizeof(T);
  std::int64_t panels = 1;
  for (; number < range.end; number += 16 * panels, keys += panels * panel, scores += 16 * panels) {
    const bool whole = number >= range.first && number + 16 <= range.end;
    // What several tiles of heads read stays in the first-level cache.
    panels = !whole ? 1 : least((range.end - number) / 16, task.group <= most_heads ? gqa_block : 2);
    for_head_tiles(
        task.group, [&]<int heads>(std::int64_t head) __attribute__((always_inline)) {
          const float* q = task.q + head * dim;
          float* target = scores + head * task.stride;
          if (whole)
            score_panels<heads>(q, dim, keys, panels, target, task.stride, head == 0 ? &ahead : nullptr);
          else
            score_part<heads>(q, dim, keys, most(0, range.first - number), least(16, range.end - number), target,
                              task.stride, head == 0 ? &ahead : nullptr);
        });
  }
}

// Products of queries and keys; that with number `base` is at scores[..][0].
template <class T>
void score_keys(const GqaTask& task, const GqaScratch& scratch, const Range& range, std::int64_t base,
                Ahead& ahead) noexcept {
  constexpr std::int64_t size = sizeof(T);
  const std::int64_t panel = KeyPanels::panel_bytes(task.qk_dim, size) / size;
  for_runs(task, range, [&](const GqaRun& run, const Range& part) {
    const std::int64_t place = run.place + part.first - run.begin, number = part.first - place % 16;
    const T* keys = static_cast<const T*>(run.keys) + place / 16 * panel;
    float* scores = scratch.scores + number - base;
    if (task.rows == 1)
      score_run_of_row(task, keys, number, seen(task, 0, part), scores, ahead);
    else
      score_run(task, scratch, keys, number, part, scores, ahead);
  });
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
float weigh_scores(float* scores, const Range& range, float largest, Rounding rounding, Ahead* ahead) noexcept {
  const Lanes shift = Lanes::broadcast(largest);
  Lanes sum = Lanes::zero();
  for (std::int64_t at = range.first / 16 * 16; at < range.end; at += 16) {
    Lanes weight = exp(rounded(Lanes::load(scores + at) - shift, rounding));
    if (at < range.first || at + 16 > range.end) weight = only(weight, range.first - at, range.end - at, 0);
    weight.store(scores + at);
    sum = sum + weight;
    if (ahead != nullptr) ahead->take_line();
  }
  return sum.sum();
}

void widen_values(const std::uint16_t* values, std::int64_t count, float* target) noexcept {
  std::int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    Lanes::load_bf16(values + i).store(target + i);
    Lanes::load_bf16(values + i + 16).store(target + i + 16);
  }
  for (; i < count; i += 16) Lanes::load_bf16_first(values + i, count - i).store_first(target + i, count - i);
}

// Adds the weighted values of a few keys, `part`, to the sums of every query that sees them.
template <class T>
void add_rows(const GqaTask& task, const T* values, const Range& part, const float* scores, float* out,
              const char* ahead) noexcept {
  const std::int64_t dim = task.v_dim;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const Range keys = seen(task, row, part);
    if (keys.first >= keys.end) continue;
    const float* weights = scores + row * task.group * task.stride + keys.first - part.first;
    for_head_tiles(
        task.group, [&]<int heads>(std::int64_t head) __attribute__((always_inline)) {
          weigh_heads<heads>(weights + head * task.stride, task.stride, values + (keys.first - part.first) * dim,
                             keys.end - keys.first, dim, out + (row * task.group + head) * dim,
                             head == 0 ? ahead : nullptr);
        });
    ahead = nullptr;
  }
}

// Adds the weighted values of the range to the sums of every query.
template <class T>
void add_values(const GqaTask& task, const GqaScratch& scratch, const Range& range, std::int64_t base, float* out,
                Ahead& ahead) noexcept {
  const std::int64_t dim = task.v_dim;
  for_runs(task, range, [&](const GqaRun& run, const Range& part) {
    for (std::int64_t at = part.first, behind; at < part.end; at = behind) {
      behind = least(part.end, at + GqaScratch::panel_keys);
      const T* values = static_cast<const T*>(run.values) + (at - run.begin) * dim;
      const char* coming = ahead.take((behind - at) * dim * 2);
      if (!widened_before<T>(task)) {
        add_rows(task, values, {at, behind}, scratch.scores + at - base, out, coming);
        continue;
      }
      if constexpr (sizeof(T) == 2) widen_values(values, (behind - at) * dim, scratch.values);
      add_rows(task, scratch.values, {at, behind}, scratch.scores + at - base, out, coming);
    }
  });
  if (sizeof(T) == 4 || widened_before<T>(task)) return;
  for (std::int64_t query = 0; query < task.queries(); ++query)
    for (std::int64_t e = 0; e + 32 <= dim; e += 32) interleave(out + query * dim + e);
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
  Ahead ahead(task, range.first, range.end, sizeof(T));
  score_keys<T>(task, scratch, range, base, ahead);
  for (std::int64_t query = 0; query < task.queries(); ++query) {
    const Range keys = seen(task, query / task.group, range);
    if (keys.first >= keys.end) continue;
    const Range places = {keys.first - base, keys.end - base};
    float* scores = scratch.scores + query * task.stride;
    sums.largest[query] = scale_scores(task, scores, places, -std::numeric_limits<float>::infinity());
    sums.sum[query] =
        weigh_scores(scores, places, sums.largest[query], Rounding::none, task.rows == 1 ? &ahead : nullptr);
  }
  clear(sums.out, task.queries() * task.v_dim);
  add_values<T>(task, scratch, range, base, sums.out, ahead);
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
  Ahead ahead(task, all.first, all.end, sizeof(T));
  score_keys<T>(task, scratch, all, base, ahead);
  for (std::int64_t query = 0; query < task.queries(); ++query) {
    const float* sink = sink_of(task, query);
    const Range keys = seen(task, query / task.group, all), places = {keys.first - base, keys.end - base};
    float* scores = scratch.scores + query * task.stride;
    const float largest =
        scale_scores(task, scores, places, sink != nullptr ? *sink : -std::numeric_limits<float>::infinity());
    float sum = weigh_scores(scores, places, largest, task.shift, nullptr);
    if (sink != nullptr) sum += exp(rounded(Lanes::broadcast(*sink - largest), task.shift)).first();
    scratch.total.largest[query] = largest;
    scratch.total.sum[query] = sum;
    const Lanes denominator = Lanes::broadcast(sum);
    for (std::int64_t at = places.first / 16 * 16; at < places.end; at += 16)
      round_bf16(Lanes::load(scores + at) / denominator).store(scores + at);
  }
  clear(scratch.total.out, task.queries() * dim);
  add_values<T>(task, scratch, all, base, scratch.total.out, ahead);
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
