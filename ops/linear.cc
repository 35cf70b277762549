#include "ops/linear.h"

#include <algorithm>
#include <utility>

#include "ops/linear_tiles.h"
#include "ops/linear_w8a8.h"
#include "ops/scratch_carver.h"
#include "ops/worker_scratch.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::int64_t serial_rows = 4;    // so few are packed by the calling thread
constexpr std::int64_t output_grain = 16;  // outputs of a task: whole cache lines of y
constexpr std::int64_t tasks_per_thread = 8;

bool is_w8a8(Compute compute) noexcept {
  return compute == Compute::w8a8 || compute == Compute::w8a8_ue8m0;
}

LinearFormat format_of(const Tensor& weight, Compute compute) {
  if (weight.dtype() == Dtype::f8_e4m3) return LinearFormat::f8_e4m3;
  require(!is_w8a8(compute), Errc::bad_argument, "linear: a weight of {} for quantized inputs, expected F8_E4M3",
          name_of(weight.dtype()));
  if (weight.dtype() == Dtype::bf16) return LinearFormat::bf16;
  if (weight.dtype() == Dtype::u8 && weight.exponents() != nullptr) return LinearFormat::mxfp4;
  require(weight.dtype() == Dtype::f32 && compute == Compute::f32, Errc::bad_argument,
          "linear: a weight of {}, expected BF16, F8_E4M3, MXFP4{}", name_of(weight.dtype()),
          compute == Compute::f32 ? " or F32" : "");
  return LinearFormat::f32;
}

}  // namespace

// Steps call this for every expert: shapes are put into words where there is an error to tell only.
LinearWeight linear_weight(const Tensor& weight, Compute compute) {
  if (weight.rank() != 2 || weight.dim(0) <= 0 || weight.dim(1) <= 0)
    fail(Errc::bad_argument, "linear: a weight of shape {}, expected [outputs, inputs]", shape_text(weight.shape()));
  const BlockScales& scales = weight.scales();
  const LinearFormat format = format_of(weight, compute);
  const bool scaled = scales && scales.columns == (weight.dim(1) + linear_block - 1) / linear_block &&
                      scales.segment_rows > 0 && weight.dim(0) % scales.segment_rows == 0 && scales.skipped_rows >= 0 &&
                      scales.skipped_rows < linear_block;
  if (format == LinearFormat::f8_e4m3 && !scaled)
    fail(Errc::bad_argument, "linear: an FP8 weight {} with {} scales per row in segments of {} rows",
         shape_text(weight.shape()), scales.columns, scales.segment_rows);
  require(format != LinearFormat::mxfp4 || weight.dim(1) % 16 == 0, Errc::bad_argument,
          "linear: an MXFP4 weight of {} bytes a row, which is not a multiple of 16", weight.dim(1));
  return {.data = weight.data(),
          .scales = scales.data,
          .format = format,
          .outputs = weight.dim(0),
          .inputs = format == LinearFormat::mxfp4 ? 2 * weight.dim(1) : weight.dim(1),
          .scale_columns = scales.columns,
          .segment_rows = scales.segment_rows,
          .skipped_rows = scales.skipped_rows,
          .small_codes = scales.small_codes,
          .exponents = weight.exponents()};
}

std::size_t packed_row_bytes(Compute compute, std::int64_t inputs) noexcept {
  if (compute == Compute::f32) return 0;
  return is_w8a8(compute) ? static_cast<std::size_t>(quantized_groups(inputs)) * sizeof(QuantizedGroup)
                          : packed_bytes(1, inputs);
}

bool takes_tiles(Compute compute) {
  return compute == Compute::bf16_tiles && active_isa() == Isa::amx;
}

void pack_rows(Compute compute, const float* x, std::int64_t rows, std::int64_t inputs, std::byte* packed) {
  const auto scale = compute == Compute::w8a8_ue8m0 ? ActivationScale::power_of_two : ActivationScale::f32;
  if (takes_tiles(compute))
    pack_columns(compute, x, inputs, nullptr, rows, inputs, 0, inputs, packed);
  else if (compute == Compute::bf16 || compute == Compute::bf16_tiles)
    pack_bf16_kernel.best()(x, rows, inputs, reinterpret_cast<std::uint16_t*>(packed));
  else if (is_w8a8(compute))
    quantize_rows_kernel.best()(x, rows, inputs, scale, reinterpret_cast<QuantizedGroup*>(packed));
}

void pack_columns(Compute compute, const float* x, std::int64_t stride, const std::int32_t* x_rows, std::int64_t rows,
                  std::int64_t inputs, std::int64_t begin, std::int64_t end, std::byte* packed) {
  if (takes_tiles(compute))
    return pack_tiles_kernel({x, stride, x_rows, rows, inputs, begin, end, reinterpret_cast<std::uint16_t*>(packed)});
  const std::size_t row_bytes = packed_row_bytes(compute, inputs);
  packed += packed_row_bytes(compute, begin);
  for (std::int64_t row = 0; row < rows; ++row, packed += row_bytes)
    pack_rows(compute, x + (x_rows != nullptr ? x_rows[row] : row) * stride, 1, end - begin, packed);
}

LinearFn* linear_kernel(Compute compute, std::int64_t rows) {
  if (takes_tiles(compute)) return linear_tiles_kernel;
  if (compute == Compute::bf16 || compute == Compute::bf16_tiles) return best_linear_bf16(rows);
  return is_w8a8(compute) ? linear_w8a8_kernel.best() : linear_f32_kernel.best();
}

std::int64_t rows_per_call(Compute compute, std::int64_t rows, std::int64_t inputs) {
  if (compute == Compute::f32 || is_w8a8(compute) || takes_tiles(compute)) return rows;
  return LinearScratch::even_group_rows(inputs, rows);
}

Linear::Linear(std::vector<LinearPart> parts) {
  require(!parts.empty(), Errc::bad_argument, "linear: no weight");
  compute_ = parts[0].options.compute;
  for (LinearPart& part : parts) {
    const LinearWeight weight = linear_weight(part.weight, part.options.compute);
    require(part.options.bias.empty() || std::ssize(part.options.bias) == weight.outputs, Errc::bad_argument,
            "linear: a bias of {} elements for a weight {}", part.options.bias.size(), shape_text(part.weight.shape()));
    if (parts_.empty()) inputs_ = weight.inputs;
    require(weight.inputs == inputs_ && part.options.compute == compute_, Errc::bad_argument,
            "linear: a weight {} beside one of {} inputs; all must have these and compute alike",
            shape_text(part.weight.shape()), inputs_);
    outputs_ += weight.outputs;
    parts_.push_back({weight, std::move(part.options)});
  }
  linear_kernel(compute_, 1);  // measures now, so that no step has to
}

Linear::Linear(const Tensor& weight, LinearOptions options)
    : Linear(std::vector<LinearPart>{{weight, std::move(options)}}) {}

// Tasks of one group of rows follow each other. There are several for each thread, so that a slow one is helped at its
// end; of whole panels of scales where there are many outputs, and none less than a fork-join is worth.
Linear::Division Linear::division_of(std::int64_t rows, int threads) const {
  Division division = {.rows = rows_per_call(compute_, rows, inputs_), .outputs = 0, .groups = 0, .group_tasks = 0};
  division.groups = (rows + division.rows - 1) / division.rows;
  const std::int64_t grain = outputs_ >= 8 * linear_block * threads ? linear_block : output_grain;
  const std::int64_t share = outputs_ * division.groups / (tasks_per_thread * threads) / grain * grain;
  const std::int64_t worthwhile = Parallel::least_work / (division.rows * inputs_) + 1;
  division.outputs = (std::max({grain, share, worthwhile}) + output_grain - 1) / output_grain * output_grain;
  for (const Part& part : parts_)
    division.group_tasks += (part.weight.outputs + division.outputs - 1) / division.outputs;
  return division;
}

Linear::Task Linear::task_of(std::int64_t index, std::int64_t rows, const Division& division) const noexcept {
  Task task = {.group = index / division.group_tasks};
  task.first_row = task.group * division.rows;
  task.rows = std::min(division.rows, rows - task.first_row);
  std::int64_t left = index % division.group_tasks;
  for (;; ++task.part) {
    const std::int64_t outputs = parts_[task.part].weight.outputs,
                       tasks = (outputs + division.outputs - 1) / division.outputs;
    if (left >= tasks) {
      left -= tasks;
      continue;
    }
    task.begin = left * division.outputs;
    task.end = std::min(task.begin + division.outputs, outputs);
    return task;
  }
}

// The scratch memory of a step.
struct Linear::Memory {
  std::byte* packed;  // the rows, as kernels take them
  WorkerScratch workers;
  std::size_t bytes;
};

Linear::Memory Linear::layout(std::int64_t rows, int threads, std::byte* scratch) const noexcept {
  ScratchCarver carver(scratch);
  Memory memory{};
  memory.packed = carver.take<std::byte>(rows * static_cast<std::int64_t>(packed_row_bytes(compute_, inputs_)));
  memory.workers = WorkerScratch(carver, inputs_, threads);
  memory.bytes = carver.used();
  return memory;
}

std::size_t Linear::scratch_bytes(std::int64_t rows, int threads) const {
  return layout(rows, threads, nullptr).bytes;
}

void Linear::run(const StepContext& context) const {
  const std::int64_t rows = context.rows;
  const int threads = context.parallel.threads();
  const std::size_t row_bytes = packed_row_bytes(compute_, inputs_);
  const Memory memory = layout(rows, threads, context.scratch.data());
  const float* x = context.input(0);
  if (row_bytes > 0)
    context.parallel.for_range(rows, takes_tiles(compute_) ? tile_rows : serial_rows,
                               [&](std::int64_t begin, std::int64_t end, int) {
                                 pack_rows(compute_, x + begin * inputs_, end - begin, inputs_,
                                           memory.packed + static_cast<std::size_t>(begin) * row_bytes);
                               });
  LinearFn* kernel = linear_kernel(compute_, rows);
  memory.workers.clear();
  const Division division = division_of(rows, threads);
  const std::int64_t tasks = division.groups * division.group_tasks;
  context.parallel.for_tasks(
      tasks, outputs_ / division.group_tasks * division.rows * inputs_, [&](std::int64_t index, int worker) {
        const Task task = task_of(index, rows, division);
        const Part& part = parts_[task.part];
        float* y = context.output(task.part) + task.first_row * part.weight.outputs;
        const std::byte* packed = memory.packed + static_cast<std::size_t>(task.first_row) * row_bytes;
        kernel({.weight = part.weight,
                .x = row_bytes > 0 ? static_cast<const void*>(packed) : x + task.first_row * inputs_,
                .x_rows = nullptr,
                .rows = task.rows,
                .y = y,
                .y_stride = part.weight.outputs,
                .begin = task.begin,
                .end = task.end,
                .scratch = memory.workers.of(worker),
                .same_x = memory.workers.hold(worker, task.group)});
        part.finish(y, task.rows, task.begin, task.end);
      });
}

// The bias, the scale and the roundings of outputs [begin, end).
void Linear::Part::finish(float* y, std::int64_t rows, std::int64_t begin, std::int64_t end) const noexcept {
  const bool product = options.product == Rounding::bf16, output = options.output == Rounding::bf16;
  if (options.bias.empty() && options.scale == 1.0f && !product && !output) return;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t o = begin; o < end; ++o) {
      float& value = y[row * weight.outputs + o];
      if (!options.bias.empty()) value += options.bias[static_cast<std::size_t>(o)];
      if (product) value = round_to_bf16(value);
      value *= options.scale;
      if (output) value = round_to_bf16(value);
    }
}

// Of weights and scales.
double Linear::Part::bytes() const noexcept {
  double scale_bytes = 0;  // per output
  if (weight.format == LinearFormat::f8_e4m3) scale_bytes = 4 * static_cast<double>(weight.scale_columns) / 128;
  if (weight.format == LinearFormat::mxfp4) scale_bytes = static_cast<double>(weight.inputs) / 32;
  return static_cast<double>(weight.outputs) * (static_cast<double>(weight.row_bytes()) + scale_bytes);
}

Cost Linear::cost(const StepContext& context) const {
  const auto rows = static_cast<double>(context.rows), inputs = static_cast<double>(inputs_),
             outputs = static_cast<double>(outputs_);
  double weight_bytes = 0;
  for (const Part& part : parts_) weight_bytes += part.bytes();
  return {.weight_bytes = weight_bytes,
          .activation_bytes = 4 * rows * (inputs + outputs),
          .flops = 2 * rows * outputs * inputs};
}

}  // namespace millrace
