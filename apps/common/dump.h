// DumpObserver: collects outputs of steps by name while a prompt is computed, over as many passes as it takes; the
// rows of later passes are appended. It holds everything it was asked for in memory. Used by the computing thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/observer.h"

namespace millrace {

// Whether `name` is a value of the dump format: residual streams, norms, attention and MLP outputs, routing. Other
// values of a Program are how it happens to compute, and differ from release to release.
bool is_dump_name(std::string_view name);

// The values of `program` that `patterns` ask for, in the order of the program, without the logits. "all" and patterns
// with '*' or '?' choose among the names of the dump format; a plain name may be any value. Throws Error(bad_argument)
// for a pattern that chooses nothing, naming near ones.
std::vector<ValueId> select_values(const Program& program, const std::vector<std::string>& patterns);

// Rows of one value: F32 or I32, [rows, row_shape...].
struct DumpTensor {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> data;
};

class DumpObserver final : public Observer {
 public:
  // Collects `values` of `program`; `rows` is how many are expected in all.
  DumpObserver(const Program& program, const std::vector<ValueId>& values, std::int64_t rows);

  void after(const Program& program, const Step& step, const StepContext& context) override;

  // In the order of the values given.
  const std::vector<DumpTensor>& tensors() const noexcept { return tensors_; }

 private:
  std::map<ValueId, std::size_t> index_;  // value -> its place in tensors_
  std::vector<DumpTensor> tensors_;
};

}  // namespace millrace
