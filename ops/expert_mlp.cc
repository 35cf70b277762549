#include "ops/expert_mlp.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>

#include "ops/swiglu.h"
#include "runtime/bfloat16.h"
#include "runtime/buffer.h"
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
constexpr std::int64_t panel = linear_block;    // outputs of a task
constexpr std::int64_t least_wave_pairs = 512;  // pairs a wave may hold however few rows there are
constexpr std::int64_t pack_grain = 4;          // rows per task of packing and combining

LinearFn* kernel_for(Compute compute, std::int64_t rows) {
  return compute == Compute::bf16 ? best_linear_bf16(rows) : linear_f32_kernel.best();
}

void round_panel(float* values, std::int64_t rows, std::int64_t stride, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t i = begin; i < end; ++i) values[row * stride + i] = round_to_bf16(values[row * stride + i]);
}

// Hands out pieces of the scratch; without memory it only counts.
class Carver {
 public:
  explicit Carver(std::byte* memory) : memory_(memory) {}

  template <class T>
  T* take(std::int64_t count) {
    std::byte* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    used_ += (bytes + Buffer::alignment - 1) / Buffer::alignment * Buffer::alignment;
    return reinterpret_cast<T*>(piece);
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* memory_;
  std::size_t used_ = 0;
};

}  // namespace

// The scratch. A pair is a row with one of its experts; pairs are sorted by expert, then by row.
struct ExpertMlp::Memory {
  std::uint16_t* packed_x;  // (rows) packed; Compute::bf16 only
  std::int32_t* used;       // the experts that have rows, ascending
  std::int32_t* first;      // (experts + 1) first pair of each expert
  std::int32_t* pair_row;   // (rows * top_k) the row of each pair
  std::int32_t* pair_of;    // (rows, top_k) the pair of each choice, -1 in inactive rows
  std::int64_t wave_pairs;  // room for pairs in a wave, for the values below
  float* gate;              // (wave_pairs, width), then silu(gate) * up
  float* up;                // (wave_pairs, width)
  std::uint16_t* packed_t;  // (wave_pairs) packed rows of `gate`; Compute::bf16 only
  float* y;                 // (wave_pairs, hidden)
  std::byte* workers;       // linear_scratch_bytes for each thread
  std::size_t worker_bytes;
  std::size_t bytes;
};

// Experts used[begin .. end) with pairs [first_pair, end_pair), their weights held in memory.
struct ExpertMlp::Wave {
  struct Expert {
    LinearWeight gate, up, down;
    std::int64_t first_pair = 0, pairs = 0;
  };
  std::array<std::optional<ExpertLease>, max_leases> leases;
  std::array<Expert, max_leases> experts;
  std::int64_t begin = 0, end = 0;
  std::int64_t first_pair = 0, end_pair = 0;
};

ExpertMlp::ExpertMlp(int layer, ExpertSource& source, const ExpertMlpOptions& options)
    : layer_(layer), source_(source), options_(options) {
  require(options.hidden > 0 && options.width > 0 && options.top_k > 0 && options.top_k <= options.experts,
          Errc::bad_argument, "expert_mlp: hidden {}, width {}, {} of {} experts", options.hidden, options.width,
          options.top_k, options.experts);
  kernel_for(options.compute, many_rows);  // measures now, so that no step has to
}

ExpertMlp::Memory ExpertMlp::layout(std::int64_t rows, int threads, std::byte* scratch) const {
  const bool bf16 = options_.compute == Compute::bf16;
  const std::int64_t pairs = rows * options_.top_k;
  Carver carver(scratch);
  Memory memory{};
  memory.packed_x = carver.take<std::uint16_t>(bf16 ? rows * padded_inputs(options_.hidden) : 0);
  memory.used = carver.take<std::int32_t>(options_.experts);
  memory.first = carver.take<std::int32_t>(options_.experts + 1);
  memory.pair_row = carver.take<std::int32_t>(pairs);
  memory.pair_of = carver.take<std::int32_t>(pairs);
  memory.wave_pairs = std::min(pairs, std::max(2 * rows, least_wave_pairs));
  memory.gate = carver.take<float>(memory.wave_pairs * options_.width);
  memory.up = carver.take<float>(memory.wave_pairs * options_.width);
  memory.packed_t = carver.take<std::uint16_t>(bf16 ? memory.wave_pairs * padded_inputs(options_.width) : 0);
  memory.y = carver.take<float>(memory.wave_pairs * options_.hidden);
  memory.worker_bytes = linear_scratch_bytes(std::max(options_.hidden, options_.width));
  memory.workers = carver.take<std::byte>(threads * static_cast<std::int64_t>(memory.worker_bytes));
  memory.bytes = carver.used();
  return memory;
}

std::size_t ExpertMlp::scratch_bytes(std::int64_t rows, int threads) const {
  return layout(rows, threads, nullptr).bytes;
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

// Takes experts from used[first] on, as many as fit, and waits for their weights.
ExpertMlp::Wave ExpertMlp::next_wave(const Memory& memory, std::int64_t first, std::int64_t used) const {
  Wave wave;
  wave.begin = wave.end = first;
  wave.first_pair = wave.end_pair = memory.first[memory.used[first]];
  while (wave.end < used && wave.end - first < max_leases) {
    const std::int32_t expert = memory.used[wave.end];
    if (memory.first[expert + 1] - wave.first_pair > memory.wave_pairs) break;
    const auto slot = static_cast<std::size_t>(wave.end - first);
    const ExpertWeights& weights = wave.leases[slot].emplace(source_.acquire(layer_, expert)).weights();
    Wave::Expert& entry = wave.experts[slot];
    entry.gate = linear_weight(weights.gate, options_.compute);
    entry.up = linear_weight(weights.up, options_.compute);
    entry.down = linear_weight(weights.down, options_.compute);
    for (const LinearWeight* matrix : {&entry.gate, &entry.up})
      require(matrix->outputs == options_.width && matrix->inputs == options_.hidden, Errc::bad_argument,
              "expert_mlp: layer {}, expert {}: gate or up is [{}, {}], expected [{}, {}]", layer_, expert,
              matrix->outputs, matrix->inputs, options_.width, options_.hidden);
    require(entry.down.outputs == options_.hidden && entry.down.inputs == options_.width, Errc::bad_argument,
            "expert_mlp: layer {}, expert {}: down is [{}, {}], expected [{}, {}]", layer_, expert, entry.down.outputs,
            entry.down.inputs, options_.hidden, options_.width);
    entry.first_pair = memory.first[expert];
    entry.pairs = memory.first[expert + 1] - entry.first_pair;
    wave.end_pair = entry.first_pair + entry.pairs;
    ++wave.end;
  }
  return wave;
}

// One panel of gate and of up per task, multiplied and packed for `down` on the spot.
void ExpertMlp::gate_and_up(const StepContext& context, const Memory& memory, const Wave& wave) const {
  const bool bf16 = options_.compute == Compute::bf16;
  const std::int64_t width = options_.width, panels = (width + panel - 1) / panel;
  SwiGluFn* swiglu = swiglu_kernel.best();
  PackBf16Fn* pack = pack_bf16_kernel.best();
  const std::int64_t tasks = (wave.end - wave.begin) * panels;
  const std::int64_t work = 2 * (wave.end_pair - wave.first_pair) * width * options_.hidden / tasks;  // on average
  context.parallel.for_tasks(tasks, work, [&](std::int64_t task, int worker) {
    const Wave::Expert& expert = wave.experts[static_cast<std::size_t>(task / panels)];
    const std::int64_t begin = task % panels * panel, end = std::min(width, begin + panel);
    const std::int64_t at = expert.first_pair - wave.first_pair;
    float* gate = memory.gate + at * width;
    float* up = memory.up + at * width;
    LinearCall call{.weight = expert.gate,
                    .x = bf16 ? static_cast<const void*>(memory.packed_x) : context.input(0),
                    .x_rows = memory.pair_row + expert.first_pair,
                    .rows = expert.pairs,
                    .y = gate,
                    .y_stride = width,
                    .begin = begin,
                    .end = end,
                    .scratch = memory.workers + static_cast<std::size_t>(worker) * memory.worker_bytes};
    LinearFn* multiply = kernel_for(options_.compute, expert.pairs);
    multiply(call);
    call.weight = expert.up;
    call.y = up;
    multiply(call);
    if (options_.rounding == Rounding::bf16) {
      round_panel(gate, expert.pairs, width, begin, end);
      round_panel(up, expert.pairs, width, begin, end);
    }
    for (std::int64_t row = 0; row < expert.pairs; ++row) {
      float* t = gate + row * width + begin;
      swiglu(t, up + row * width + begin, t, end - begin, options_.rounding);
      if (bf16) pack(t, 1, end - begin, memory.packed_t + (at + row) * padded_inputs(width) + begin);
    }
  });
}

void ExpertMlp::down(const StepContext& context, const Memory& memory, const Wave& wave) const {
  const bool bf16 = options_.compute == Compute::bf16;
  const std::int64_t hidden = options_.hidden, panels = (hidden + panel - 1) / panel;
  const std::int64_t tasks = (wave.end - wave.begin) * panels;
  const std::int64_t work = (wave.end_pair - wave.first_pair) * options_.width * hidden / tasks;  // on average
  context.parallel.for_tasks(tasks, work, [&](std::int64_t task, int worker) {
    const Wave::Expert& expert = wave.experts[static_cast<std::size_t>(task / panels)];
    const std::int64_t begin = task % panels * panel, end = std::min(hidden, begin + panel);
    const std::int64_t at = expert.first_pair - wave.first_pair;
    float* y = memory.y + at * hidden;
    kernel_for(options_.compute,
               expert.pairs)({.weight = expert.down,
                              .x = bf16 ? static_cast<const void*>(memory.packed_t + at * padded_inputs(options_.width))
                                        : memory.gate + at * options_.width,
                              .x_rows = nullptr,
                              .rows = expert.pairs,
                              .y = y,
                              .y_stride = hidden,
                              .begin = begin,
                              .end = end,
                              .scratch = memory.workers + static_cast<std::size_t>(worker) * memory.worker_bytes});
    if (options_.rounding == Rounding::bf16) round_panel(y, expert.pairs, hidden, begin, end);
  });
}

// Adds the wave's results to their rows; waves and choices both ascend in the expert's id.
void ExpertMlp::combine(const StepContext& context, const Memory& memory, const Wave& wave) const {
  const std::int64_t hidden = options_.hidden, top_k = options_.top_k;
  const float* weights = context.input(2);
  ExpertCombineFn* add = expert_combine_kernel.best();
  const bool round = options_.rounding == Rounding::bf16 && wave.end_pair == memory.first[options_.experts];
  context.parallel.for_range(context.rows, pack_grain, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* out = context.output(0) + row * hidden;
      if (wave.begin == 0) std::fill_n(out, hidden, 0.0f);
      for (std::int64_t choice = row * top_k; choice < (row + 1) * top_k; ++choice) {
        const std::int64_t pair = memory.pair_of[choice];
        if (pair >= wave.first_pair && pair < wave.end_pair)
          add(weights[choice], memory.y + (pair - wave.first_pair) * hidden, out, hidden);
      }
      if (round) round_panel(out, 1, hidden, 0, hidden);
    }
  });
}

void ExpertMlp::run(const StepContext& context) const {
  const Memory memory = layout(context.rows, context.parallel.threads(), context.scratch.data());
  const std::int64_t hidden = options_.hidden, used = group_rows(context, memory);
  if (used == 0) std::fill_n(context.output(0), context.rows * hidden, 0.0f);  // every row is inactive
  source_.hint(layer_, std::span(memory.used, static_cast<std::size_t>(used)));
  if (options_.compute == Compute::bf16) {
    const float* x = context.input(0);
    PackBf16Fn* pack = pack_bf16_kernel.best();
    context.parallel.for_range(context.rows, pack_grain, [&](std::int64_t begin, std::int64_t end, int) {
      pack(x + begin * hidden, end - begin, hidden, memory.packed_x + begin * padded_inputs(hidden));
    });
  }
  for (std::int64_t first = 0; first < used;) {
    const Wave wave = next_wave(memory, first, used);
    gate_and_up(context, memory, wave);
    down(context, memory, wave);
    combine(context, memory, wave);
    first = wave.end;
  }
}

Cost ExpertMlp::cost(std::int64_t rows) const {
  const double hidden = static_cast<double>(options_.hidden), expert = 3 * hidden * static_cast<double>(options_.width);
  const double experts = static_cast<double>(options_.experts), top_k = static_cast<double>(options_.top_k);
  const double used = experts * (1 - std::pow(1 - top_k / experts, static_cast<double>(rows)));  // if chosen evenly
  return {.bytes = used * expert * options_.weight_bytes + 8 * static_cast<double>(rows) * hidden,
          .flops = 2 * static_cast<double>(rows) * top_k * expert};
}

}  // namespace millrace
