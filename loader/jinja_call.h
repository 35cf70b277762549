// How functions of the engine get their arguments: a table names the parameters, bind() checks what was given.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "loader/jinja_value.h"

namespace millrace::jinja {

// The arguments of one call in the order of the parameters; null where none was given.
struct Call {
  Heap& heap;
  std::string_view name;
  const Value& self;
  const Arguments& all;
  std::array<const Value*, 6> given{};

  bool has(std::size_t index) const { return given[index] != nullptr; }
  // Fault if it is no text.
  const Text& text(std::size_t index) const;
  // Fault if it is no integer; `otherwise` if it is missing.
  Int integer(std::size_t index, Int otherwise) const;
  bool truth(std::size_t index, bool otherwise) const { return has(index) ? given[index]->truth() : otherwise; }
};

struct Native {
  std::string_view name;
  Value (*run)(const Call&);
  std::array<std::string_view, 6> parameters{};
  std::size_t required = 0;
  bool any_arguments = false;  // takes `all` as it is
};

// Fault for arguments that do not fit.
Value invoke(Heap& heap, const Native& native, const Value& self, const Arguments& arguments);

// In a table sorted by name; null if there is none.
const Native* find_native(std::span<const Native> sorted, std::string_view name);

}  // namespace millrace::jinja
