#include "ops/linear.h"

#include <algorithm>

#include "ops/linear_w8a8.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::int64_t serial_rows = 4;    // so few are packed by the calling thread
constexpr std::int64_t output_grain = 16;  // outputs of a task: whole cache lines of y

// Whole panels of scales where there are many, and never less than a fork-join is worth.
std::int64_t outputs_per_task(const LinearWeight& weight, std::int64_t rows, int threads) {
  const std::int64_t grain = weight.outputs >= 8 * linear_block * threads ? linear_block : output_grain;
  const std::int64_t worthwhile = Parallel::least_work / (rows * weight.inputs) + 1;
  return (std::max(grain, worthwhile) + output_grain - 1) / output_grain * output_grain;
}

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

LinearWeight linear_weight(const Tensor& weight, Compute compute) {
  require(weight.rank() == 2 && weight.dim(0) > 0 && weight.dim(1) > 0, Errc::bad_argument,
          "linear: a weight of shape {}, expected [outputs, inputs]", shape_text(weight.shape()));
  const BlockScales& scales = weight.scales();
  const LinearFormat format = format_of(weight, compute);
  if (format == LinearFormat::f8_e4m3)
    require(scales && scales.columns == (weight.dim(1) + linear_block - 1) / linear_block && scales.segment_rows > 0 &&
                weight.dim(0) % scales.segment_rows == 0 && scales.skipped_rows >= 0 &&
                scales.skipped_rows < linear_block,
            Errc::bad_argument, "linear: an FP8 weight {} with {} scales per row in segments of {} rows",
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
  return compute == Compute::bf16 ? packed_bytes(1, inputs)
                                  : static_cast<std::size_t>(quantized_groups(inputs)) * sizeof(QuantizedGroup);
}

void pack_rows(Compute compute, const float* x, std::int64_t rows, std::int64_t inputs, std::byte* packed) {
  const auto scale = compute == Compute::w8a8_ue8m0 ? ActivationScale::power_of_two : ActivationScale::f32;
  if (compute == Compute::bf16)
    pack_bf16_kernel.best()(x, rows, inputs, reinterpret_cast<std::uint16_t*>(packed));
  else if (is_w8a8(compute))
    quantize_rows_kernel.best()(x, rows, inputs, scale, reinterpret_cast<QuantizedGroup*>(packed));
}

LinearFn* linear_kernel(Compute compute, std::int64_t rows) {
  if (compute == Compute::bf16) return best_linear_bf16(rows);
  return is_w8a8(compute) ? linear_w8a8_kernel.best() : linear_f32_kernel.best();
}

Linear::Linear(const Tensor& weight, LinearOptions options)
    : weight_(linear_weight(weight, options.compute)), options_(std::move(options)) {
  require(options_.bias.empty() || std::ssize(options_.bias) == weight_.outputs, Errc::bad_argument,
          "linear: a bias of {} elements for a weight {}", options_.bias.size(), shape_text(weight.shape()));
  linear_kernel(options_.compute, 1);  // measures now, so that no step has to
}

void Linear::run(const StepContext& context) const {
  const std::int64_t rows = context.rows, inputs = weight_.inputs;
  const std::size_t row_bytes = packed_row_bytes(options_.compute, inputs);
  const std::size_t packed_size = static_cast<std::size_t>(rows) * row_bytes;
  const std::size_t worker_size = linear_scratch_bytes(inputs);
  std::byte* scratch = context.scratch.data();
  const float* x = context.input(0);
  float* y = context.output(0);
  if (row_bytes > 0)
    context.parallel.for_range(rows, serial_rows, [&](std::int64_t begin, std::int64_t end, int) {
      pack_rows(options_.compute, x + begin * inputs, end - begin, inputs,
                scratch + static_cast<std::size_t>(begin) * row_bytes);
    });
  LinearFn* kernel = linear_kernel(options_.compute, rows);
  const std::int64_t grain = outputs_per_task(weight_, rows, context.parallel.threads());
  context.parallel.for_range(weight_.outputs, grain, [&](std::int64_t begin, std::int64_t end, int worker) {
    kernel({.weight = weight_,
            .x = row_bytes > 0 ? static_cast<const void*>(scratch) : x,
            .x_rows = nullptr,
            .rows = rows,
            .y = y,
            .y_stride = weight_.outputs,
            .begin = begin,
            .end = end,
            .scratch = scratch + packed_size + static_cast<std::size_t>(worker) * worker_size});
    finish(y, rows, begin, end);
  });
}

// The bias, the scale and the roundings of outputs [begin, end).
void Linear::finish(float* y, std::int64_t rows, std::int64_t begin, std::int64_t end) const noexcept {
  const bool product = options_.product == Rounding::bf16, output = options_.output == Rounding::bf16;
  if (options_.bias.empty() && options_.scale == 1.0f && !product && !output) return;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t o = begin; o < end; ++o) {
      float& value = y[row * weight_.outputs + o];
      if (!options_.bias.empty()) value += options_.bias[static_cast<std::size_t>(o)];
      if (product) value = round_to_bf16(value);
      value *= options_.scale;
      if (output) value = round_to_bf16(value);
    }
}

std::size_t Linear::scratch_bytes(std::int64_t rows, int threads) const {
  return static_cast<std::size_t>(rows) * packed_row_bytes(options_.compute, weight_.inputs) +
         static_cast<std::size_t>(threads) * linear_scratch_bytes(weight_.inputs);
}

Cost Linear::cost(const StepContext& context) const {
  const auto rows = static_cast<double>(context.rows), outputs = static_cast<double>(weight_.outputs),
             inputs = static_cast<double>(weight_.inputs);
  double scale_bytes = 0;  // per output
  if (weight_.format == LinearFormat::f8_e4m3) scale_bytes = 4 * static_cast<double>(weight_.scale_columns) / 128;
  if (weight_.format == LinearFormat::mxfp4) scale_bytes = inputs / 32;
  return {.weight_bytes = outputs * (static_cast<double>(weight_.row_bytes()) + scale_bytes),
          .activation_bytes = 4 * rows * (inputs + outputs),
          .flops = 2 * rows * outputs * inputs};
}

}  // namespace millrace
