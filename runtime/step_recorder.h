// StepRecorder: keeps outputs of steps by name while a call computes, over as many passes as it takes; the rows of
// later passes are appended. It holds everything it was asked for in memory. Used by the computing thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/observer.h"

namespace millrace {

// Rows of one value: F32 or I32, [rows, row_shape...].
struct RecordedValue {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> data;

  template <class T = float>
  std::span<const T> as() const noexcept {
    return {reinterpret_cast<const T*>(data.data()), data.size() / sizeof(T)};
  }
};

class StepRecorder final : public Observer {
 public:
  // Keeps `values` of `program`; `rows` is how many are expected in all.
  StepRecorder(const Program& program, std::span<const ValueId> values, std::int64_t rows = 0);
  // The same by name. Throws Error(not_found) for a name that is no value of the program.
  StepRecorder(const Program& program, std::span<const std::string> names, std::int64_t rows = 0);

  void after(const Program& program, const Step& step, const StepContext& context) override;

  // In the order of the values given.
  std::span<const RecordedValue> values() const noexcept { return values_; }
  // Throws Error(not_found) for a name that was not asked for.
  const RecordedValue& value(std::string_view name) const;

 private:
  std::map<ValueId, std::size_t> index_;  // value -> its place in values_
  std::vector<RecordedValue> values_;
};

}  // namespace millrace
