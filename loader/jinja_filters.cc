#include "loader/jinja_filters.h"

namespace millrace::jinja {
namespace {

const Native* find_filter(std::string_view name) {
  for (const std::span<const Native> table : {text_filters(), value_filters(), sequence_filters(), selection_filters()})
    if (const Native* filter = find_native(table, name)) return filter;
  return nullptr;
}

}  // namespace

bool is_filter(std::string_view name) {
  return find_filter(name) != nullptr;
}

Value apply_filter(Heap& heap, std::string_view name, const Value& value, const Arguments& arguments) {
  const Native* filter = find_filter(name);
  if (filter == nullptr) throw Fault("there is no filter named '" + std::string(name) + "'");
  return invoke(heap, *filter, value, arguments);
}

}  // namespace millrace::jinja
