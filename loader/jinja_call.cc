#include "loader/jinja_call.h"

#include <fmt/format.h>

#include <algorithm>

namespace millrace::jinja {

const Text& Call::text(std::size_t index) const {
  if (given[index]->is(Kind::undefined)) fail_undefined(*given[index]);
  if (!given[index]->is(Kind::text))
    throw Fault(fmt::format("{}() argument must be str, not {}", name, type_name(*given[index])));
  return given[index]->text();
}

Int Call::integer(std::size_t index, Int otherwise) const {
  if (!has(index)) return otherwise;
  if (given[index]->is(Kind::undefined)) fail_undefined(*given[index]);
  if (!given[index]->is_integral())
    throw Fault(fmt::format("{}(): '{}' object cannot be interpreted as an integer", name, type_name(*given[index])));
  return given[index]->integer();
}

Value invoke(Heap& heap, const Native& native, const Value& self, const Arguments& arguments) {
  heap.step();
  Call call{heap, native.name, self, arguments};
  if (native.any_arguments) return native.run(call);
  const auto end = std::find(native.parameters.begin(), native.parameters.end(), std::string_view());
  const auto count = static_cast<std::size_t>(end - native.parameters.begin());
  if (arguments.positional.size() > count)
    throw Fault(
        fmt::format("{}() takes at most {} arguments ({} given)", native.name, count, arguments.positional.size()));
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) call.given[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(native.parameters.begin(), end, name);
    if (found == end) throw Fault(fmt::format("{}() got an unexpected keyword argument '{}'", native.name, name));
    const Value*& place = call.given[static_cast<std::size_t>(found - native.parameters.begin())];
    if (place != nullptr) throw Fault(fmt::format("{}() got multiple values for argument '{}'", native.name, name));
    place = &value;
  }
  for (std::size_t i = 0; i < native.required; ++i)
    if (call.given[i] == nullptr)
      throw Fault(fmt::format("{}() is missing its argument '{}'", native.name, native.parameters[i]));
  return native.run(call);
}

const Native* find_native(std::span<const Native> sorted, std::string_view name) {
  const auto found = std::lower_bound(sorted.begin(), sorted.end(), name,
                                      [](const Native& native, std::string_view key) { return native.name < key; });
  return found != sorted.end() && found->name == name ? &*found : nullptr;
}

}  // namespace millrace::jinja
