// A bf16 weight of random values with its sketch.
#pragma once

#include <vector>

#include "ops/linear_sketch.h"
#include "runtime/bfloat16.h"
#include "runtime/buffer.h"
#include "runtime/parallel.h"
#include "runtime/tensor.h"
#include "tests/support/random.h"

namespace millrace::test {

class SketchedWeight {
 public:
  // Columns differ in their mean, by `drift`, and in their spread.
  SketchedWeight(Random& random, std::int64_t outputs, std::int64_t inputs, float drift = 0.5f)
      : values(static_cast<std::size_t>(outputs * inputs)),
        tensor(Dtype::bf16, std::vector<std::int64_t>{outputs, inputs}, values.data()) {
    const std::vector<float> means = random.normals(inputs, drift);
    for (std::int64_t i = 0; i < outputs * inputs; ++i)
      values[static_cast<std::size_t>(i)] = bf16_from_f32(means[static_cast<std::size_t>(i % inputs)] +
                                                          random.normal() * static_cast<float>(1 + i % inputs % 3));
    make();
  }
  // After `values` changed.
  void make(int threads = 1) {
    memory = Buffer(sketch_bytes(tensor.dim(0), tensor.dim(1)), "sketch");
    sketch = make_sketch(tensor, Parallel(threads), memory.data());
  }

  std::vector<Bfloat16> values;
  Tensor tensor;
  Buffer memory;
  LinearSketch sketch;
};

}  // namespace millrace::test
