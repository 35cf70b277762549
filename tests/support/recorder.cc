#include "tests/support/recorder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "loader/safetensors.h"
#include "runtime/bfloat16.h"

namespace millrace::test {
namespace {

std::vector<float> as_floats(const SafetensorsFile& file, const TensorEntry& entry) {
  const auto bytes = file.read(entry);
  const auto size = static_cast<std::size_t>(size_of(entry.dtype));
  std::vector<float> values(bytes.size() / size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, bytes.data() + i * size, size);
    switch (entry.dtype) {
      case Dtype::f32:
        values[i] = std::bit_cast<float>(bits);
        break;
      case Dtype::bf16:
        values[i] = bf16_to_f32(static_cast<Bfloat16>(bits));
        break;
      case Dtype::i32:
        values[i] = static_cast<float>(std::bit_cast<std::int32_t>(bits));
        break;
      default:
        ADD_FAILURE() << entry.name << " is " << name_of(entry.dtype);
    }
  }
  return values;
}

std::vector<std::int32_t> take_ids(NamedRows& all, const char* name) {
  const auto node = all.extract(name);
  if (node.empty()) return {};
  return {node.mapped().begin(), node.mapped().end()};
}

}  // namespace

NamedRows read_rows(const std::string& path) {
  const SafetensorsFile file(path);
  NamedRows all;
  for (const TensorEntry& entry : file.entries()) all[entry.name] = as_floats(file, entry);
  return all;
}

std::span<const std::int32_t> rows_of(const Golden& golden, const std::string& name) {
  constexpr std::string_view prefix = "mtp.layers.";
  std::size_t kept = golden.rows.size();
  if (name.starts_with(prefix)) {
    const std::int32_t end =
        static_cast<std::int32_t>(golden.tokens.size()) - 1 - std::stoi(name.substr(prefix.size()));
    while (kept > 0 && golden.rows[kept - 1] >= end) --kept;
  }
  return std::span(golden.rows).first(kept);
}

Golden read_golden(const std::string& path) {
  NamedRows all = read_rows(path);
  Golden golden = {take_ids(all, "tokens"), take_ids(all, "positions"), take_ids(all, "rows"), {}};
  for (auto& [name, values] : all) {
    const auto width = static_cast<std::int64_t>(values.size() / rows_of(golden, name).size());
    golden.steps[name] = {.width = width, .values = std::move(values)};
  }
  return golden;
}

void Recorder::after(const Program& program, const Step& step, const StepContext& context) {
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    const Value& value = program.value(step.outputs[i]);
    Rows& rows = steps_[value.name];
    rows.width = value.row_elements();
    const std::int64_t count = context.rows * rows.width;
    for (std::int64_t e = 0; e < count; ++e)
      rows.values.push_back(value.dtype == Dtype::i32 ? static_cast<float>(context.output<std::int32_t>(i)[e])
                                                      : context.output(i)[e]);
  }
}

double relative_error(const Golden& golden, const std::string& name, const Recorder& recorder) {
  const Rows& want = golden.steps.at(name);
  const auto found = recorder.steps().find(name);
  if (found == recorder.steps().end() || found->second.width != want.width) {
    ADD_FAILURE() << name << " is missing or has another width";
    return INFINITY;
  }
  double largest = 0, difference = 0;
  const std::span<const std::int32_t> rows = rows_of(golden, name);
  for (std::size_t row = 0; row < rows.size(); ++row)
    for (std::int64_t e = 0; e < want.width; ++e) {
      const double expected = want.values[row * static_cast<std::size_t>(want.width) + static_cast<std::size_t>(e)];
      const double got = found->second.values[static_cast<std::size_t>(rows[row] * want.width + e)];
      largest = std::max(largest, std::abs(expected));
      difference = std::isnan(got) ? INFINITY : std::max(difference, std::abs(got - expected));
    }
  return largest == 0 ? difference : difference / largest;
}

}  // namespace millrace::test
