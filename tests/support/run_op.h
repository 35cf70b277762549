// Runs one operator outside a Program, on memory of the test.
#pragma once

#include <vector>

#include "runtime/buffer.h"
#include "runtime/op.h"

namespace millrace::test {

// `inputs` and `outputs` point to row-major values with `rows` rows. The batch may carry tokens, positions and runs.
inline void run_op(const Op& op, std::int64_t rows, std::vector<const void*> inputs, std::vector<void*> outputs,
                   int threads = 1, const Batch& batch = {}) {
  std::vector<const std::byte*> in;
  std::vector<std::byte*> out;
  for (const void* input : inputs) in.push_back(static_cast<const std::byte*>(input));
  for (void* output : outputs) out.push_back(static_cast<std::byte*>(output));
  Buffer scratch(op.scratch_bytes(rows, threads), "scratch");
  const Parallel parallel(threads);
  op.run({.batch = batch,
          .parallel = parallel,
          .rows = rows,
          .inputs = in,
          .outputs = out,
          .scratch = {scratch.data(), scratch.bytes()}});
}

}  // namespace millrace::test
