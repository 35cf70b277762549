#include "loader/jinja_access.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/jinja_eval.h"
#include "loader/jinja_loop.h"
#include "loader/jinja_methods.h"
#include "loader/jinja_numbers.h"
#include "loader/jinja_print.h"
#include "loader/unicode.h"

namespace millrace::jinja {
namespace {

std::string object_name(const Value& object) {
  if (object.is(Kind::none)) return "None";
  if (object.is(Kind::space)) return "jinja2.utils.Namespace object";
  return std::string(type_name(object)) + " object";
}

Value no_attribute(Heap& heap, const Value& object, const std::string& name) {
  return heap.undefined(fmt::format("'{}' has no attribute {}, it is undefined", object_name(object), in_quotes(name)));
}

Value unsafe(Heap& heap, const Value& object, const std::string& name) {
  return heap.undefined(
      fmt::format("access to attribute {} of '{}' is not allowed", in_quotes(name), object_name(object)));
}

Value bound(Heap& heap, const Native& method, const Value& object) {
  const auto call = [&method](Heap& inner, const Value& self, const Arguments& arguments) {
    return invoke(inner, method, self, arguments);
  };
  return Value::object(Kind::function, std::make_shared<const Function>(std::string(method.name), object, call, heap));
}

// What Python calls an attribute: anything but items.
bool own_attribute(Heap& heap, const Value& object, const std::string& name, const Value& key, Value& result) {
  if (const Native* method = find_method(object, name)) {
    result = bound(heap, *method, object);
  } else if (is_changing_method(object, name) || (name.starts_with("__") && name.ends_with("__"))) {
    result = unsafe(heap, object, name);
  } else if (object.is(Kind::space)) {
    const Value* found = object.space().attributes.find(key);
    if (found == nullptr) return false;
    result = *found;
  } else if (object.is(Kind::loop)) {
    return loop_attribute(heap, object, name, result);
  } else if (object.is(Kind::macro)) {
    return macro_attribute(heap, object.macro(), name, result);
  } else if (object.is(Kind::tuple) && object.get<Sequence>().group && (name == "grouper" || name == "list")) {
    result = object.get<Sequence>().items[name == "list" ? 1 : 0];
  } else {
    return false;
  }
  return true;
}

// An index counted from the end if it is negative; false if it is outside.
bool find_index(const Value& key, std::size_t size, std::size_t& index) {
  Int at = key.integer();
  if (at < 0) at += static_cast<Int>(size);
  if (at < 0 || at >= static_cast<Int>(size)) return false;
  index = static_cast<std::size_t>(at);
  return true;
}

bool own_item(Heap& heap, const Value& object, const Value& key, Value& result) {
  std::size_t index = 0;
  if (object.is(Kind::dict)) {
    if (key.is(Kind::list) || key.is(Kind::dict)) return false;
    const Value* found = object.get<Dict>().find(key);
    if (found == nullptr) return false;
    result = found->as_data(object.data());
    return true;
  }
  const bool indexed =
      object.is(Kind::list) || object.is(Kind::tuple) || object.is(Kind::text) || object.is(Kind::range);
  if (!indexed || !key.is_integral() || !find_index(key, length(object), index)) return false;
  if (object.is(Kind::text))
    result = heap.text(Text(1, object.text()[index]), object.get<String>().markup);
  else
    result = Cursor(heap, object).at(heap, index);
  return true;
}

struct Bounds {
  Int start, stop, step;
  std::size_t count;
};

bool is_bound(const Value& value) {
  return value.is(Kind::none) || value.is_integral();
}

// slice.indices() of Python.
Bounds bounds_of(Int size, const Value& start, const Value& stop, const Value& step) {
  Bounds bounds{};
  bounds.step = step.is(Kind::none) ? 1 : std::clamp(step.integer(), -size - 1, size + 1);  // farther is the same
  if (bounds.step == 0) throw Fault("slice step cannot be zero");
  const bool backwards = bounds.step < 0;
  const Int low = backwards ? -1 : 0, high = backwards ? size - 1 : size;
  const auto bounded = [&](const Value& value, Int otherwise) {
    if (value.is(Kind::none)) return otherwise;
    const Int index = value.integer() < 0 ? value.integer() + size : value.integer();
    return std::clamp(index, low, high);
  };
  bounds.start = bounded(start, backwards ? high : low);
  bounds.stop = bounded(stop, backwards ? low : high);
  const Int distance = backwards ? bounds.start - bounds.stop : bounds.stop - bounds.start;
  const Int stride = backwards ? -bounds.step : bounds.step;
  bounds.count = distance <= 0 ? 0 : static_cast<std::size_t>((distance - 1) / stride + 1);
  return bounds;
}

}  // namespace

Value get_attribute(Heap& heap, const Value& object, const std::string& name, const Value& key) {
  if (object.is(Kind::undefined)) fail_undefined(object);
  Value result;
  if (own_attribute(heap, object, name, key, result) || own_item(heap, object, key, result)) return result;
  return no_attribute(heap, object, name);
}

Value get_item(Heap& heap, const Value& object, const Value& key) {
  if (object.is(Kind::undefined)) fail_undefined(object);
  Value result;
  if (own_item(heap, object, key, result)) return result;
  if (!key.is(Kind::text)) {
    const std::string shown = to_utf8(to_repr(heap, key).substr(0, 64));
    return heap.undefined(fmt::format("{} has no element {}, it is undefined", object_name(object), shown));
  }
  const std::string name = to_utf8(key.text());
  return own_attribute(heap, object, name, key, result) ? result : no_attribute(heap, object, name);
}

Value get_slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is(Kind::undefined)) fail_undefined(object);
  const bool sliceable =
      object.is(Kind::list) || object.is(Kind::tuple) || object.is(Kind::text) || object.is(Kind::range);
  if (object.is(Kind::dict)) throw Fault("unhashable type: 'slice'");
  if (!sliceable) throw Fault(fmt::format("'{}' object is not subscriptable", type_name(object)));
  if (!is_bound(start) || !is_bound(stop) || !is_bound(step)) throw Fault("slice indices must be integers or None");
  const Bounds bounds = bounds_of(static_cast<Int>(length(object)), start, stop, step);
  const auto at = [&](std::size_t i) {
    return static_cast<std::size_t>(bounds.start + static_cast<Int>(i) * bounds.step);
  };
  if (object.is(Kind::range)) {
    const Range& range = object.get<Range>();
    const Int first = range.start + bounds.start * range.step;
    return heap.range(first, range.start + bounds.stop * range.step, range.step * bounds.step);
  }
  heap.work(4 * bounds.count);
  if (object.is(Kind::text)) {
    Text text;
    text.reserve(bounds.count);
    for (std::size_t i = 0; i < bounds.count; ++i) text += object.text()[at(i)];
    return heap.text(std::move(text), object.get<String>().markup);
  }
  std::vector<Value> items;
  items.reserve(bounds.count);
  for (std::size_t i = 0; i < bounds.count; ++i) items.push_back(object.get<Sequence>().items[at(i)]);
  return heap.sequence(object.kind(), std::move(items), object.data());
}

Value get_path(Heap& heap, const Value& object, const Value& path, const Value* otherwise) {
  if (!path.is(Kind::text)) return get_item(heap, object, path);
  Value value = object;
  TextView rest = path.text();
  for (bool more = true; more;) {
    const std::size_t dot = rest.find(U'.');
    const TextView part = rest.substr(0, dot);
    more = dot != nowhere;
    rest = more ? rest.substr(dot + 1) : TextView();
    const bool is_number = !part.empty() && part.size() < 10 && std::all_of(part.begin(), part.end(), [](char32_t c) {
      return is_decimal(c) && point(c) < 0x80;
    });
    value = get_item(heap, value, is_number ? parse_int(to_utf8(part), 10) : heap.text(Text(part)));
    if (otherwise != nullptr && value.is(Kind::undefined)) value = *otherwise;
  }
  return value;
}

}  // namespace millrace::jinja
