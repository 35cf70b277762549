#include "ops/gqa_attention.h"

#include <algorithm>
#include <cmath>

#include "ops/math.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(GqaAttentionFn, gqa_attention)

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

template <class T>
void score_head(const GqaTask& task, const float* q, float* scores) noexcept {
  const float* bias = task.bias;
  for (std::int64_t r = 0; r < task.run_count; ++r) {
    const T* key = static_cast<const T*>(task.runs[r].keys);
    for (std::int64_t row = 0; row < task.runs[r].rows; ++row, key += task.qk_dim) {
      float lane[16] = {};
      for (std::int64_t e = 0; e < task.qk_dim; ++e) lane[e % 16] = std::fma(q[e], widened(key[e]), lane[e % 16]);
      *scores = rounded(rounded(tree_sum(lane), task.rounding) * task.scale, task.rounding);
      if (bias != nullptr) *scores = rounded(*scores + rounded(*bias++, task.rounding), task.rounding);
      ++scores;
    }
  }
}

// Scores become weights; returns what the weighted sum is still to be divided by.
float softmax(const GqaTask& task, const float* sink, float* scores) noexcept {
  float largest = sink != nullptr ? *sink : scores[0];
  for (std::int64_t j = 0; j < task.visible; ++j) largest = scores[j] > largest ? scores[j] : largest;
  float lane[16] = {};
  for (std::int64_t j = 0; j < task.visible; ++j) {
    scores[j] = exp_f32(rounded(scores[j] - largest, task.shift));
    lane[j % 16] += scores[j];
  }
  float denominator = tree_sum(lane);
  if (sink != nullptr) denominator += exp_f32(rounded(*sink - largest, task.shift));
  if (task.rounding == Rounding::none) return denominator;
  for (std::int64_t j = 0; j < task.visible; ++j) scores[j] = round_to_bf16(scores[j] / denominator);
  return 1.0f;
}

template <class T>
void weigh_values(const GqaTask& task, const float* weights, float denominator, float* out) noexcept {
  std::fill_n(out, task.v_dim, 0.0f);
  for (std::int64_t r = 0; r < task.run_count; ++r) {
    const T* value = static_cast<const T*>(task.runs[r].values);
    for (std::int64_t row = 0; row < task.runs[r].rows; ++row, value += task.v_dim, ++weights)
      for (std::int64_t e = 0; e < task.v_dim; ++e) out[e] = std::fma(*weights, widened(value[e]), out[e]);
  }
  for (std::int64_t e = 0; e < task.v_dim; ++e) out[e] = rounded(out[e] / denominator, task.rounding);
}

template <class T>
void attend_group(const GqaTask& task) noexcept {
  for (std::int64_t head = 0; head < task.group; ++head) {
    float* scores = task.scores + head * task.stride;
    score_head<T>(task, task.q + head * task.qk_dim, scores);
    task.denominators[head] = softmax(task, task.sinks != nullptr ? task.sinks + head : nullptr, scores);
    weigh_values<T>(task, scores, task.denominators[head], task.out + head * task.v_dim);
  }
}

std::size_t aligned(std::size_t bytes) noexcept {
  return (bytes + Buffer::alignment - 1) / Buffer::alignment * Buffer::alignment;
}

}  // namespace

namespace scalar {

void gqa_attention(const GqaTask& task) noexcept {
  task.bf16 ? attend_group<Bfloat16>(task) : attend_group<float>(task);
}

}  // namespace scalar

const Kernel<GqaAttentionFn> gqa_attention_kernel = {
    "gqa_attention",
    {scalar::gqa_attention, MILLRACE_AVX2(gqa_attention), MILLRACE_AVX512(gqa_attention), nullptr, nullptr},
};

GqaAttention::GqaAttention(GqaAttentionOptions options) : options_(std::move(options)) {
  const LayerKvShape& kv = options_.kv;
  require(kv.kv_heads > 0 && options_.heads > 0 && options_.heads % kv.kv_heads == 0, Errc::bad_argument,
          "attention of {} query heads over {} kv heads, expected a multiple", options_.heads, kv.kv_heads);
  require(kv.qk_dim > 0 && kv.v_dim > 0 && kv.window >= 0 && options_.kv_layer >= 0 && options_.max_context > 0,
          Errc::bad_argument, "attention with keys of {}, values of {}, window {}, layer {}, context {}", kv.qk_dim,
          kv.v_dim, kv.window, options_.kv_layer, options_.max_context);
  require(options_.cache == Dtype::bf16 || options_.cache == Dtype::f32, Errc::bad_argument,
          "attention over a cache of {}, expected BF16 or F32", name_of(options_.cache));
  require(options_.sinks.empty() || std::ssize(options_.sinks) == options_.heads, Errc::bad_argument,
          "{} attention sinks for {} query heads", options_.sinks.size(), options_.heads);
  group_ = options_.heads / kv.kv_heads;
  scale_ = static_cast<float>(1 / std::sqrt(static_cast<double>(kv.qk_dim)));
}

GqaAttention::Worker GqaAttention::worker_layout() const noexcept {
  const std::int64_t window = options_.kv.window, context = options_.max_context;
  const std::int64_t visible = window > 0 ? std::min(window, context) : context;
  // A ring is at most two runs, the rows of the pass are a third.
  const std::int64_t runs = window > 0 ? 3 : (context + KvCache::page_rows - 1) / KvCache::page_rows;
  const std::int64_t stride = (visible + 15) / 16 * 16;
  const std::size_t runs_at = aligned(static_cast<std::size_t>(group_ * (stride + 1)) * sizeof(float));
  const std::size_t end = runs_at + aligned(static_cast<std::size_t>(runs) * sizeof(GqaRun));
  return {stride, runs_at, end, end};
}

// A mask may show any rows, at worst every second one.
GqaAttention::Worker GqaAttention::masked_worker_layout(std::int64_t visible) const noexcept {
  const std::int64_t runs = visible / 2 + visible / KvCache::page_rows + 4, stride = (visible + 15) / 16 * 16;
  const std::size_t runs_at = aligned(static_cast<std::size_t>(group_ * (stride + 1)) * sizeof(float));
  const std::size_t bias_at = runs_at + aligned(static_cast<std::size_t>(runs) * sizeof(GqaRun));
  return {stride, runs_at, bias_at, bias_at + aligned(static_cast<std::size_t>(visible) * sizeof(float))};
}

std::size_t GqaAttention::staged_bytes(std::int64_t rows) const noexcept {
  if (options_.kv.window == 0) return 0;
  return aligned(static_cast<std::size_t>(rows * options_.kv.row_elements() * size_of(options_.cache)));
}

std::size_t GqaAttention::scratch_bytes(std::int64_t rows, int threads) const {
  return staged_bytes(rows) + static_cast<std::size_t>(threads) * worker_layout().bytes;
}

void GqaAttention::check(const Batch& batch) const {
  for (const Batch::Run& run : batch.runs) {
    require(run.cache->dtype() == options_.cache, Errc::bad_argument,
            "attention over a cache of {} was given one of {}", name_of(options_.cache), name_of(run.cache->dtype()));
    const std::int64_t rows = run.cache->length() + run.end - run.begin;
    require(rows <= options_.max_context, Errc::bad_argument, "a sequence of {} tokens, attention was planned for {}",
            rows, options_.max_context);
  }
}

// A ring has no room for rows of the pass beside those they push out, so these wait in the scratch memory.
void GqaAttention::take_new_rows(const StepContext& context) const {
  const LayerKvShape& kv = options_.kv;
  const std::int64_t key_row = kv.kv_heads * kv.qk_dim, value_row = kv.kv_heads * kv.v_dim;
  const std::int64_t row_bytes = kv.row_elements() * size_of(options_.cache);
  for (const Batch::Run& run : context.batch.runs)
    context.parallel.for_range(run.end - run.begin, 16, [&](std::int64_t begin, std::int64_t end, int) {
      const float* keys = context.input(1) + (run.begin + begin) * key_row;
      const float* values = context.input(2) + (run.begin + begin) * value_row;
      if (kv.window == 0)
        run.cache->write(options_.kv_layer, run.cache->length() + begin, end - begin, keys, values);
      else
        store_kv_rows(kv, options_.cache, run.end - run.begin, begin, end - begin, keys, values,
                      context.scratch.data() + run.begin * row_bytes);
    });
}

// The mask for this kind of layer, or null.
const KeyMask* GqaAttention::mask_of(const Batch::Run& run) const noexcept {
  if (run.inputs == nullptr) return nullptr;
  const KeyMask& mask = options_.kv.window > 0 ? run.inputs->sliding_mask : run.inputs->full_mask;
  return mask.given() ? &mask : nullptr;
}

GqaAttention::Place GqaAttention::place_of(const StepContext& context, std::int64_t row, std::int64_t kv_head,
                                           std::byte* memory) const noexcept {
  const Batch::Run& run = *context.batch.run_of(row);
  const KeyMask* mask = mask_of(run);
  const std::int64_t length = run.cache->length(), window = options_.kv.window;
  if (mask != nullptr && mask->replaces()) return {run, mask, row, 0, length + run.end - run.begin, kv_head, memory};
  const std::int64_t end = length + row - run.begin + 1;
  return {run, mask, row, window > 0 ? std::max<std::int64_t>(0, end - window) : 0, end, kv_head, memory};
}

// Rows [first, end) of the place's sequence, from the cache and, with a window, the staged rows.
std::int64_t GqaAttention::collect_runs(const StepContext& context, const Place& place, std::int64_t first,
                                        std::int64_t end, GqaRun* runs) const noexcept {
  const LayerKvShape& kv = options_.kv;
  const Batch::Run& run = place.run;
  const std::int64_t size = size_of(options_.cache), length = run.cache->length();
  std::int64_t count = 0;
  const auto append = [&](const KvRun& part) {
    runs[count++] = {.keys = part.keys + place.kv_head * part.key_head_stride * size,
                     .values = part.values + place.kv_head * part.value_head_stride * size,
                     .rows = part.end - part.begin};
    first = part.end;
  };
  const std::int64_t cached_end = kv.window > 0 ? std::min(length, end) : end;
  while (first < cached_end) append(run.cache->run_at(options_.kv_layer, first, cached_end));
  if (first < end)
    append(run_of_block(kv, options_.cache, run.end - run.begin,
                        context.scratch.data() + run.begin * kv.row_elements() * size, length, first, end));
  return count;
}

// The same for the rows that the mask shows; `visible` and `bias` receive their number and additions.
std::int64_t GqaAttention::collect_masked(const StepContext& context, const Place& place, GqaRun* runs,
                                          std::int64_t* visible, float* bias) const {
  const KeyMask& mask = *place.mask;
  const std::int64_t window = options_.kv.window, row = place.own_row();
  const std::int64_t held = window > 0 ? std::max<std::int64_t>(0, place.run.cache->length() - window) : 0;
  std::int64_t count = 0;
  *visible = 0;
  for (std::int64_t key = place.first; key < place.end; ++key) {
    if (!mask.sees(row, key)) continue;
    require(key >= held, Errc::bad_argument, "row {} sees key {}, but a window of {} has let go of keys before {}", row,
            key, window, held);
    std::int64_t end = key;
    for (; end < place.end && mask.sees(row, end); ++end)
      bias[(*visible)++] = mask.additive != nullptr ? mask.additive[row * mask.stride + end] : 0.0f;
    count += collect_runs(context, place, key, end, runs + count);
    key = end;
  }
  return count;
}

// Writes the probabilities of a finished task where they are wanted.
void GqaAttention::record(const Place& place, const GqaTask& task) const noexcept {
  const RunInputs* inputs = place.run.inputs;
  if (inputs == nullptr || inputs->probabilities.empty()) return;
  float* rows = inputs->probabilities[static_cast<std::size_t>(options_.kv_layer)];
  if (rows == nullptr) return;
  for (std::int64_t head = 0; head < group_; ++head) {
    float* out = rows + (place.own_row() * options_.heads + place.kv_head * group_ + head) * inputs->probability_keys;
    const float* scores = task.scores + head * task.stride;
    for (std::int64_t key = place.first; key < place.end; ++key)
      if (place.mask == nullptr || place.mask->sees(place.own_row(), key))
        out[key] = *scores++ / task.denominators[head];
  }
}

void GqaAttention::attend(const StepContext& context, const Place& place, const Worker& layout) const {
  const LayerKvShape& kv = options_.kv;
  const std::int64_t head = place.kv_head * group_;
  auto* runs = reinterpret_cast<GqaRun*>(place.memory + layout.runs_at);
  auto* bias = reinterpret_cast<float*>(place.memory + layout.bias_at);
  std::int64_t visible = place.end - place.first;
  const std::int64_t run_count = place.mask == nullptr ? collect_runs(context, place, place.first, place.end, runs)
                                                       : collect_masked(context, place, runs, &visible, bias);
  const bool added = place.mask != nullptr && std::any_of(bias, bias + visible, [](float x) { return x != 0; });
  const GqaTask task = {.q = context.input(0) + (place.row * options_.heads + head) * kv.qk_dim,
                        .sinks = options_.sinks.empty() ? nullptr : options_.sinks.data() + head,
                        .out = context.output(0) + (place.row * options_.heads + head) * kv.v_dim,
                        .runs = runs,
                        .run_count = run_count,
                        .visible = visible,
                        .scores = reinterpret_cast<float*>(place.memory),
                        .denominators = reinterpret_cast<float*>(place.memory) + group_ * layout.stride,
                        .stride = layout.stride,
                        .group = group_,
                        .qk_dim = kv.qk_dim,
                        .v_dim = kv.v_dim,
                        .scale = scale_,
                        .rounding = options_.rounding,
                        .shift = options_.shift,
                        .bf16 = options_.cache == Dtype::bf16,
                        .bias = added ? bias : nullptr};
  if (visible == 0) {
    std::fill_n(task.out, group_ * kv.v_dim, 0.0f);
    return;
  }
  added ? scalar::gqa_attention(task) : gqa_attention_kernel.best()(task);
  record(place, task);
}

// Rows of the longest sequence after the pass.
std::int64_t GqaAttention::longest(const Batch& batch) const noexcept {
  std::int64_t rows = 0;
  for (const Batch::Run& run : batch.runs) rows = std::max(rows, run.cache->length() + run.end - run.begin);
  return rows;
}

// Multiply-adds of the largest task: one row and one kv head.
std::int64_t GqaAttention::task_work(const Batch& batch) const noexcept {
  const std::int64_t rows = longest(batch), window = options_.kv.window;
  return (window > 0 ? std::min(rows, window) : rows) * group_ * (options_.kv.qk_dim + options_.kv.v_dim);
}

void GqaAttention::run(const StepContext& context) const {
  check(context.batch);
  take_new_rows(context);
  const std::int64_t rows = context.rows;
  Worker layout = worker_layout();
  std::byte* workers = context.scratch.data() + staged_bytes(rows);
  Buffer for_masks;
  if (std::any_of(context.batch.runs.begin(), context.batch.runs.end(),
                  [this](const Batch::Run& run) { return mask_of(run) != nullptr; })) {
    layout = masked_worker_layout(longest(context.batch));
    for_masks = Buffer(static_cast<std::size_t>(context.parallel.threads()) * layout.bytes, "attention masks");
    workers = for_masks.data();
  }
  // Rows of one head follow each other, so its keys stay in the core's cache.
  context.parallel.for_tasks(rows * options_.kv.kv_heads, task_work(context.batch), [&](std::int64_t task, int worker) {
    attend(context,
           place_of(context, task % rows, task / rows, workers + static_cast<std::size_t>(worker) * layout.bytes),
           layout);
  });
  if (options_.kv.window == 0) return;
  for (const Batch::Run& run : context.batch.runs)
    run.cache->write(options_.kv_layer, run.cache->length(), run.end - run.begin,
                     context.input(1) + run.begin * options_.kv.kv_heads * options_.kv.qk_dim,
                     context.input(2) + run.begin * options_.kv.kv_heads * options_.kv.v_dim);
}

Cost GqaAttention::cost(std::int64_t rows) const {
  const auto head_elements = static_cast<double>(options_.heads * (options_.kv.qk_dim + options_.kv.v_dim));
  const auto kv_elements = static_cast<double>(options_.kv.row_elements());
  const auto size = static_cast<double>(size_of(options_.cache));
  return {.bytes = static_cast<double>(rows) * (4 * head_elements + (4 + size) * kv_elements),
          .flops = static_cast<double>(rows) * 2 * head_elements};
}

}  // namespace millrace
