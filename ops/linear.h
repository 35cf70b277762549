// Linear: y = round_output(scale * round_product(x W^T + bias)), W being (outputs, inputs). One order of summation for
// all tiers, row counts and thread counts; it is stated in ops/linear_kernels.h.
//
// Several weights that multiply the same x, as q, k and v do, may be parts of one operator: x is prepared once, and the
// threads share all outputs, each reading its part of the weights in one stream.
#pragma once

#include <string_view>
#include <vector>

#include "ops/linear_kernels.h"
#include "runtime/numerics.h"
#include "runtime/op.h"
#include "runtime/tensor.h"

namespace millrace {

enum class Compute {
  bf16,        // x rounded to bf16, weights bf16 (FP8: bf16(code * scale); MXFP4: exact), fp32 sums
  bf16_tiles,  // the same, but on the amx tier summed in the order of ops/linear_tiles.h
  f32,         // x and weights in fp32 (an FP8 weight is code * scale), fp32 sums
  w8a8,        // FP8 weights only: x quantized to FP8 as ops/linear_w8a8.h says
  w8a8_ue8m0,  // the same with scales of x that are powers of two
};

struct LinearOptions {
  Compute compute = Compute::bf16;
  std::vector<float> bias;            // (outputs), or empty
  float scale = 1;                    // multiplies the result
  Rounding product = Rounding::none;  // after the bias
  Rounding output = Rounding::none;   // after the scale
};

// The weight as kernels see it. Throws Error(bad_argument) unless it is a matrix of BF16, F8_E4M3 with block scales
// that fit its shape, MXFP4 or, for Compute::f32 only, F32; for W8A8 only F8_E4M3.
LinearWeight linear_weight(const Tensor& weight, Compute compute);

// The form in which the kernels of `compute` take their inputs: bytes of a row, 0 where x serves as it is, and its
// making. x: (rows, inputs). Every 128 inputs begin a part of a row that can be made alone. Where kernels take tiles
// (ops/linear_tiles.h), as those of bf16_tiles do on the amx tier, `packed` begins a group of tile_rows rows; a call of
// such a kernel chooses no rows.
std::size_t packed_row_bytes(Compute compute, std::int64_t inputs) noexcept;
bool takes_tiles(Compute compute);
void pack_rows(Compute compute, const float* x, std::int64_t rows, std::int64_t inputs, std::byte* packed);
// The same for elements [begin, end) of each row alone, multiples of 128 or end = inputs. x points to that part of row
// 0, its rows are `stride` apart; x_rows says which to take, null for 0, 1, ...
void pack_columns(Compute compute, const float* x, std::int64_t stride, const std::int32_t* x_rows, std::int64_t rows,
                  std::int64_t inputs, std::int64_t begin, std::int64_t end, std::byte* packed);

// The kernel to call for so many rows on the active tier.
LinearFn* linear_kernel(Compute compute, std::int64_t rows);

// How many of `rows` to give that kernel at a time where it is called for one range of outputs after the other: kernels
// of bf16 prepare the inputs of a group of rows in their scratch, which takes as long as some outputs do, and find them
// there in the next call (LinearCall::same_x). All groups but the last are as large.
std::int64_t rows_per_call(Compute compute, std::int64_t rows, std::int64_t inputs);

// One weight and what becomes of its product.
struct LinearPart {
  Tensor weight;
  LinearOptions options = {};
};

class Linear final : public Op {
 public:
  // Input 0: (rows, inputs); output i: (rows, outputs) of part i. The memory of the weights must outlive the operator.
  // Throws Error(bad_argument) for parts whose inputs or compute differ, and what linear_weight() throws.
  explicit Linear(std::vector<LinearPart> parts);
  // With one part.
  Linear(const Tensor& weight, LinearOptions options);

  std::string_view kind() const noexcept override { return "linear"; }
  void run(const StepContext& context) const override;
  std::size_t scratch_bytes(std::int64_t rows, int threads) const override;
  Cost cost(const StepContext& context) const override;

 private:
  struct Part {
    LinearWeight weight;
    LinearOptions options;

    void finish(float* y, std::int64_t rows, std::int64_t begin, std::int64_t end) const noexcept;
    double bytes() const noexcept;
  };
  // How the product is divided: into groups of rows, of which a worker's scratch holds one, and outputs of each part.
  struct Division {
    std::int64_t rows, outputs;  // most of a task
    std::int64_t groups;
    std::int64_t group_tasks;  // of one group of rows
  };
  // Outputs [begin, end) of a part, for some of the rows.
  struct Task {
    std::int64_t group = 0, first_row = 0, rows = 0;
    std::size_t part = 0;
    std::int64_t begin = 0, end = 0;
  };
  struct Memory;

  Division division_of(std::int64_t rows, int threads) const;
  Task task_of(std::int64_t index, std::int64_t rows, const Division& division) const noexcept;
  Memory layout(std::int64_t rows, int threads, std::byte* scratch) const noexcept;

  std::vector<Part> parts_;
  Compute compute_ = Compute::bf16;
  std::int64_t inputs_ = 0;
  std::int64_t outputs_ = 0;  // of all parts
};

}  // namespace millrace
