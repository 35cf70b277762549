#include "ops/expert_mlp.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include "ops/expert_mlp_memory.h"
#include "ops/expert_mlp_wave.h"
#include "ops/swiglu.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "runtime/run_inputs.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(ExpertCombineFn, expert_combine)

namespace scalar {

void expert_combine(float weight, const float* y, float* out, std::int64_t count) noexcept {
  for (std::int64_t i = 0; i < count; ++i) out[i] = std::fma(weight, y[i], out[i]);
}

}  // namespace scalar

const Kernel<ExpertCombineFn> expert_combine_kernel = {
    "expert_combine",
    {scalar::expert_combine, MILLRACE_AVX2(expert_combine), MILLRACE_AVX512(expert_combine), nullptr, nullptr},
};

namespace {

constexpr std::int64_t many_rows = 64;
constexpr std::int64_t pack_grain = 4;   // rows per task of packing and combining
constexpr std::int64_t pack_part = 512;  // elements per task of packing tiles

void round_panel(float* values, std::int64_t rows, std::int64_t stride, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t i = begin; i < end; ++i) values[row * stride + i] = round_to_bf16(values[row * stride + i]);
}

bool is_inactive(const Batch& batch, std::int64_t row) noexcept {
  const Batch::Run* run = batch.run_of(row);
  return run != nullptr && run->inputs != nullptr && run->inputs->inactive != nullptr &&
         run->inputs->inactive[row - run->begin] != 0;
}

}  // namespace

ExpertMlp::ExpertMlp(int layer, ExpertSource& source, const ExpertMlpOptions& options)
    : layer_(layer),
      source_(source),
      options_(options),
      forms_{options.compute, options.fp8_compute.value_or(options.compute)},
      form_count_(forms_[0] == forms_[1] ? 1 : 2) {
  require(options.hidden > 0 && options.width > 0 && options.top_k > 0 && options.top_k <= options.experts,
          Errc::bad_argument, "expert_mlp: hidden {}, width {}, {} of {} experts", options.hidden, options.width,
          options.top_k, options.experts);
  for (Compute compute : forms_) linear_kernel(compute, many_rows);  // measures now, so that no step has to
}

ExpertMlp::Matrix ExpertMlp::matrix(const Tensor& weight) const {
  const std::size_t form = weight.dtype() == Dtype::f8_e4m3 ? form_count_ - 1 : 0;
  return {.weight = linear_weight(weight, forms_[form]), .form = form};
}

// Sorts the pairs by expert and returns how many experts have rows.
std::int64_t ExpertMlp::group_rows(const StepContext& context, const Memory& memory) const {
  const std::int64_t top_k = options_.top_k, experts = options_.experts, pairs = context.rows * top_k;
  const std::int32_t* ids = context.input<std::int32_t>(1);
  std::fill_n(memory.first, experts + 1, 0);
  std::fill_n(memory.pair_of, pairs, 0);
  for (const Batch::Run& run : context.batch.runs)
    for (std::int64_t row = run.begin; row < run.end; ++row)
      if (run.inputs != nullptr && run.inputs->inactive != nullptr && run.inputs->inactive[row - run.begin] != 0)
        std::fill_n(memory.pair_of + row * top_k, top_k, -1);
  for (std::int64_t i = 0; i < pairs; ++i) {
    if (memory.pair_of[i] < 0) continue;
    require(ids[i] >= 0 && ids[i] < experts && (i % top_k == 0 || ids[i] > ids[i - 1]), Errc::bad_argument,
            "expert_mlp: layer {}, row {}: expert ids are out of order or not in 0 to {}", layer_, i / top_k,
            experts - 1);
    ++memory.first[ids[i] + 1];
  }
  std::int64_t used = 0;
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    if (memory.first[expert + 1] > 0) memory.used[used++] = static_cast<std::int32_t>(expert);
    memory.first[expert + 1] += memory.first[expert];
  }
  // Each expert's `first` walks to its end while its pairs are placed; shifting by one puts the starts back.
  for (std::int64_t i = 0; i < pairs; ++i) {
    if (memory.pair_of[i] < 0) continue;
    const std::int32_t pair = memory.first[ids[i]]++;
    memory.pair_row[pair] = static_cast<std::int32_t>(i / top_k);
    memory.pair_of[i] = pair;
  }
  std::copy_backward(memory.first, memory.first + experts, memory.first + experts + 1);
  memory.first[0] = 0;
  return used;
}

void ExpertMlp::hint_next(const StepContext& context, const Memory& memory) const {
  const auto* ids = context.input<std::int32_t>(3);
  const float* weights = context.input(4);
  std::fill_n(memory.hint_weight, options_.experts, 0.0f);
  for (std::int64_t i = 0; i < context.rows * options_.top_k; ++i) {
    require(ids[i] >= 0 && ids[i] < options_.experts, Errc::bad_argument,
            "expert_mlp: layer {}: a hint of expert {}, expected 0 to {}", layer_, ids[i], options_.experts - 1);
    memory.hint_weight[ids[i]] += std::abs(weights[i]);
  }
  std::int64_t count = 0;
  for (std::int32_t expert = 0; expert < options_.experts; ++expert)
    if (memory.hint_weight[expert] > 0) memory.hinted[count++] = expert;
  if (2 * count < options_.experts)
    std::sort(memory.hinted, memory.hinted + count,
              [&](std::int32_t a, std::int32_t b) { return memory.hint_weight[a] > memory.hint_weight[b]; });
  source_.hint({.layer = layer_ + 1, .experts = std::span(memory.hinted, static_cast<std::size_t>(count))});
}

void ExpertMlp::add(Wave& wave, const Memory& memory, std::int32_t expert, ExpertLease&& lease) const {
  const auto slot = static_cast<std::size_t>(wave.count++);
  const ExpertWeights& weights = wave.leases[slot].emplace(std::move(lease)).weights();
  Wave::Expert& entry = wave.experts[slot];
  entry.gate = matrix(weights.gate);
  entry.up = matrix(weights.up);
  entry.down = matrix(weights.down);
  for (const LinearWeight* first_of : {&entry.gate.weight, &entry.up.weight})
    require(first_of->outputs == options_.width && first_of->inputs == options_.hidden, Errc::bad_argument,
            "expert_mlp: layer {}, expert {}: gate or up is [{}, {}], expected [{}, {}]", layer_, expert,
            first_of->outputs, first_of->inputs, options_.width, options_.hidden);
  const LinearWeight& last = entry.down.weight;
  require(last.outputs == options_.hidden && last.inputs == options_.width, Errc::bad_argument,
          "expert_mlp: layer {}, expert {}: down is [{}, {}], expected [{}, {}]", layer_, expert, last.outputs,
          last.inputs, options_.hidden, options_.width);
  entry.first_pair = memory.first[expert];
  entry.pairs = memory.first[expert + 1] - entry.first_pair;
  wave.pairs += entry.pairs;
}

// Experts from used[first] on, as many as fit and are there; waits for the first only.
void ExpertMlp::take_next(Wave& wave, const Memory& memory, std::int64_t first, std::int64_t used) const {
  wave.base = memory.first[memory.used[first]];
  add(wave, memory, memory.used[first], source_.acquire(layer_, memory.used[first]));
  for (std::int64_t next = first + 1; next < used && !wave.is_full(); ++next) {
    const std::int32_t expert = memory.used[next];
    if (memory.first[expert + 1] - wave.base > memory.wave_pairs) return;
    std::optional<ExpertLease> lease = source_.try_acquire(layer_, expert);
    if (!lease) return;
    add(wave, memory, expert, std::move(*lease));
  }
}

// Those of the experts from used[first] on that are there, whatever their order; if there is none, waits for the first.
// They are moved to the front of used[first ..).
void ExpertMlp::take_present(Wave& wave, const Memory& memory, std::int64_t first, std::int64_t used) const {
  for (std::int64_t next = first; next < used && !wave.is_full(); ++next) {
    std::optional<ExpertLease> lease = source_.try_acquire(layer_, memory.used[next]);
    if (!lease) continue;
    add(wave, memory, memory.used[next], std::move(*lease));
    std::rotate(memory.used + first + wave.count - 1, memory.used + next, memory.used + next + 1);
  }
  if (wave.count == 0) add(wave, memory, memory.used[first], source_.acquire(layer_, memory.used[first]));
}

// The rows of the wave's pairs for kernels that take tiles: these do not choose rows.
void ExpertMlp::pack_tiles(const StepContext& context, const Memory& memory, const Wave& wave) const {
  const std::int64_t hidden = options_.hidden, parts = (hidden + pack_part - 1) / pack_part, tasks = wave.count * parts;
  for (std::size_t form = 0; form < form_count_; ++form) {
    if (!takes_tiles(forms_[form])) continue;
    const std::size_t row_bytes = packed_row_bytes(forms_[form], hidden);
    context.parallel.for_tasks(tasks, wave.pairs * hidden / tasks, [&](std::int64_t task, int) {
      const Wave::Expert& expert = wave.experts[static_cast<std::size_t>(task / parts)];
      const std::int64_t begin = task % parts * pack_part, end = std::min(hidden, begin + pack_part);
      pack_columns(forms_[form], context.input(0) + begin, hidden, memory.pair_row + expert.first_pair, expert.pairs,
                   hidden, begin, end,
                   memory.packed_x[form] + static_cast<std::size_t>(expert.first_pair - wave.base) * row_bytes);
    });
  }
}

// One panel of gate and of up per task, multiplied and packed for `down` on the spot.
void ExpertMlp::gate_and_up(const StepContext& context, const Memory& memory, const Wave& wave) const {
  const std::int64_t width = options_.width;
  Division division(wave, width);
  for (std::size_t i = 0; i < static_cast<std::size_t>(wave.count); ++i) {
    const Wave::Expert& expert = wave.experts[i];
    const auto rows = [&](const Matrix& matrix) {
      return rows_per_call(forms_[matrix.form], expert.pairs, options_.hidden);
    };
    division.add(i, std::max(rows(expert.gate), rows(expert.down)));  // what is packed as tiles is packed whole
  }
  SwiGluFn* swiglu = swiglu_kernel.best();
  const std::int64_t work = 2 * wave.pairs * width * options_.hidden / division.tasks;  // on average
  memory.workers.clear();
  context.parallel.for_tasks(division.tasks, work, [&](std::int64_t index, int worker) {
    const Division::Task task = division.task(index);
    const Wave::Expert& expert = *task.expert;
    const bool one_form = expert.gate.form == expert.up.form;
    const bool prepared = memory.workers.hold(worker, task.group);
    float* gate = memory.gate + task.at * width;
    float* up = memory.up + task.at * width;
    const auto multiply = [&](const Matrix& matrix, float* y, bool same_x, const std::byte* next) {
      const Compute form = forms_[matrix.form];
      const std::size_t row_bytes = packed_row_bytes(form, options_.hidden);
      // Tiles are of the wave's pairs, else rows are chosen.
      const std::int64_t first = takes_tiles(form) ? task.at : 0;
      const std::byte* packed = memory.packed_x[matrix.form] + static_cast<std::size_t>(first) * row_bytes;
      LinearFn* kernel = linear_kernel(form, task.pairs);
      kernel({.weight = matrix.weight,
              .x = row_bytes > 0 ? static_cast<const void*>(packed) : context.input(0),
              .x_rows = takes_tiles(form) ? nullptr : memory.pair_row + wave.base + task.at,
              .rows = task.pairs,
              .y = y,
              .y_stride = width,
              .begin = task.begin,
              .end = task.end,
              .scratch = memory.workers.of(worker),
              .same_x = same_x,
              .next = next});
      if (options_.rounding == Rounding::bf16) round_panel(y, task.pairs, width, task.begin, task.end);
    };
    const bool last = index + 1 == division.tasks;
    const Division::Task following = division.task(last ? 0 : index + 1);
    multiply(expert.gate, gate, prepared && one_form, expert.up.weight.row(task.begin));
    multiply(expert.up, up, one_form,
             last ? following.expert->down.weight.row(0) : following.expert->gate.weight.row(following.begin));
    for (std::int64_t i = task.begin; i < task.pairs * width; i += width)
      swiglu(gate + i, up + i, gate + i, task.end - task.begin, options_.rounding);
    const Compute form = forms_[expert.down.form];
    pack_columns(form, gate + task.begin, width, nullptr, task.pairs, width, task.begin, task.end,
                 memory.packed_t[expert.down.form] + static_cast<std::size_t>(task.at) * packed_row_bytes(form, width));
  });
}

void ExpertMlp::down(const StepContext& context, const Memory& memory, const Wave& wave) const {
  const std::int64_t hidden = options_.hidden;
  Division division(wave, hidden);
  for (std::size_t i = 0; i < static_cast<std::size_t>(wave.count); ++i) {
    const Wave::Expert& expert = wave.experts[i];
    division.add(i, rows_per_call(forms_[expert.down.form], expert.pairs, options_.width));
  }
  const std::int64_t work = wave.pairs * options_.width * hidden / division.tasks;  // on average
  memory.workers.clear();
  context.parallel.for_tasks(division.tasks, work, [&](std::int64_t index, int worker) {
    const Division::Task task = division.task(index);
    const Matrix& matrix = task.expert->down;
    float* y = memory.y + task.at * hidden;
    const Compute form = forms_[matrix.form];
    const std::size_t row_bytes = packed_row_bytes(form, options_.width);
    const std::byte* packed = memory.packed_t[matrix.form] + static_cast<std::size_t>(task.at) * row_bytes;
    const std::byte* next = nullptr;
    if (index + 1 < division.tasks) {
      const Division::Task following = division.task(index + 1);
      next = following.expert->down.weight.row(following.begin);
    }
    LinearFn* kernel = linear_kernel(form, task.pairs);
    kernel({.weight = matrix.weight,
            .x = row_bytes > 0 ? static_cast<const void*>(packed) : memory.gate + task.at * options_.width,
            .x_rows = nullptr,
            .rows = task.pairs,
            .y = y,
            .y_stride = hidden,
            .begin = task.begin,
            .end = task.end,
            .scratch = memory.workers.of(worker),
            .same_x = memory.workers.hold(worker, task.group),
            .next = next});
    if (options_.rounding == Rounding::bf16) round_panel(y, task.pairs, hidden, task.begin, task.end);
  });
}

// Adds the results of pairs [begin, end) to their rows; pairs of a row and its choices both ascend in the expert's id.
void ExpertMlp::combine(const StepContext& context, const Memory& memory, std::int64_t begin, std::int64_t end) const {
  const std::int64_t hidden = options_.hidden, top_k = options_.top_k;
  const float* weights = context.input(2);
  ExpertCombineFn* combine_row = expert_combine_kernel.best();
  const bool round = options_.rounding == Rounding::bf16 && end == memory.first[options_.experts];
  context.parallel.for_range(context.rows, pack_grain, [&](std::int64_t first_row, std::int64_t end_row, int) {
    for (std::int64_t row = first_row; row < end_row; ++row) {
      float* out = context.output(0) + row * hidden;
      if (begin == 0) std::fill_n(out, hidden, 0.0f);
      for (std::int64_t choice = row * top_k; choice < (row + 1) * top_k; ++choice) {
        const std::int64_t pair = memory.pair_of[choice];
        if (pair >= begin && pair < end) combine_row(weights[choice], memory.y + (pair - begin) * hidden, out, hidden);
      }
      if (round) round_panel(out, 1, hidden, 0, hidden);
    }
  });
}

void ExpertMlp::run(const StepContext& context) const {
  const Memory memory = layout(context.rows, context.parallel.threads(), context.scratch.data());
  const std::int64_t hidden = options_.hidden, used = group_rows(context, memory);
  if (used == 0) std::fill_n(context.output(0), context.rows * hidden, 0.0f);  // every row is inactive
  source_.demand({.layer = layer_,
                  .rows = context.rows,
                  .experts = std::span(memory.used, static_cast<std::size_t>(used)),
                  .first = memory.first});
  if (context.inputs.size() > 3) hint_next(context, memory);
  for (std::size_t form = 0; form < form_count_; ++form) {
    const std::size_t row_bytes = packed_row_bytes(forms_[form], hidden);
    if (row_bytes == 0 || takes_tiles(forms_[form])) continue;
    context.parallel.for_range(context.rows, pack_grain, [&](std::int64_t begin, std::int64_t end, int) {
      pack_rows(forms_[form], context.input(0) + begin * hidden, end - begin, hidden,
                memory.packed_x[form] + static_cast<std::size_t>(begin) * row_bytes);
    });
  }
  // Where all results have room at a time, the experts may come in any order; else their waves ascend.
  const std::int64_t pairs = memory.first[options_.experts];
  const bool any_order = pairs <= memory.wave_pairs;
  for (std::int64_t first = 0; first < used;) {
    Wave wave;
    if (any_order)
      take_present(wave, memory, first, used);
    else
      take_next(wave, memory, first, used);
    pack_tiles(context, memory, wave);
    gate_and_up(context, memory, wave);
    down(context, memory, wave);
    if (!any_order) combine(context, memory, wave.base, wave.base + wave.pairs);
    first += wave.count;
  }
  if (any_order && used > 0) combine(context, memory, 0, pairs);
}

// Experts that some active row wants, and the pairs of rows and experts. Without ids, as if chosen evenly.
ExpertMlp::Use ExpertMlp::use_of(const StepContext& context) const {
  const std::int64_t top_k = options_.top_k;
  const auto experts = static_cast<double>(options_.experts), rows = static_cast<double>(context.rows);
  if (context.inputs.empty())
    return {.experts = experts * (1 - std::pow(1 - static_cast<double>(top_k) / experts, rows)),
            .pairs = rows * static_cast<double>(top_k)};
  constexpr std::int64_t group = 1024;  // experts looked for at a time
  Use use;
  for (std::int64_t first = 0; first < options_.experts; first += group) {
    std::bitset<group> seen;
    for (std::int64_t row = 0; row < context.rows; ++row) {
      if (is_inactive(context.batch, row)) continue;
      for (std::int64_t k = 0; k < top_k; ++k) {
        const std::int64_t id = context.input<std::int32_t>(1)[row * top_k + k] - first;
        if (id < 0 || id >= group) continue;
        seen.set(static_cast<std::size_t>(id));
        ++use.pairs;
      }
    }
    use.experts += static_cast<double>(seen.count());
  }
  return use;
}

Cost ExpertMlp::cost(const StepContext& context) const {
  const Use use = use_of(context);
  const double hidden = static_cast<double>(options_.hidden), width = static_cast<double>(options_.width);
  return {.weight_bytes = use.experts * static_cast<double>(source_.expert_bytes(layer_)),
          .activation_bytes = 8 * static_cast<double>(context.rows) * hidden,
          .flops = use.pairs * 6 * hidden * width};
}

}  // namespace millrace
