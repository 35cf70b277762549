// Goldens: activations of the reference implementation for small checkpoints, by step name.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "runtime/observer.h"

namespace millrace::test {

// Values of one name: `width` per row.
struct Rows {
  std::int64_t width = 0;
  std::vector<float> values;
};

// A reduced golden dump: `tokens` and `positions` whole, of everything else the rows named in `rows`.
struct Golden {
  std::vector<std::int32_t> tokens, positions, rows;
  std::map<std::string, Rows> steps;
};

// The rows that the golden holds of a step: MTP layer K has 1 + K less than the sequence.
std::span<const std::int32_t> rows_of(const Golden& golden, const std::string& name);

Golden read_golden(const std::string& path);

// Every tensor (F32, BF16 or I32) of a safetensors file as floats.
using NamedRows = std::map<std::string, std::vector<float>>;
NamedRows read_rows(const std::string& path);

// Collects every value of a pass by name, chunk after chunk.
class Recorder final : public Observer {
 public:
  void after(const Program& program, const Step& step, const StepContext& context) override;

  const std::map<std::string, Rows>& steps() const noexcept { return steps_; }

 private:
  std::map<std::string, Rows> steps_;
};

// The largest |got - want| over the rows of the golden, divided by the largest |want|.
// Fails the current test if the recorder lacks the step.
double relative_error(const Golden& golden, const std::string& name, const Recorder& got);

}  // namespace millrace::test
