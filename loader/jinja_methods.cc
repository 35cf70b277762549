#include "loader/jinja_methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "loader/jinja_print.h"

namespace millrace::jinja {

Text replaced(Heap& heap, TextView text, TextView old, TextView with, Int most) {
  heap.work(text.size() + old.size());
  std::size_t left = most < 0 ? nowhere : static_cast<std::size_t>(std::min<Int>(most, Int{1} << 40));
  Text result;
  std::size_t at = 0;
  const auto put = [&](TextView part) {
    Heap::check_text(result.size() + part.size());
    result += part;
  };
  if (old.empty()) {
    for (; at < text.size() && left > 0; ++at, --left) {
      put(with);
      put(text.substr(at, 1));
    }
    if (left > 0 && at == text.size()) put(with);
  } else {
    for (std::size_t next = find_text(text, old); next != nowhere && left > 0;
         next = find_text(text, old, at), --left) {
      put(text.substr(at, next - at));
      put(with);
      at = next + old.size();
    }
  }
  put(text.substr(at));
  heap.work(result.size());
  return result;
}

Text centered(TextView text, Int width, char32_t fill) {
  if (width <= static_cast<Int>(text.size())) return Text(text);
  Heap::check_text(static_cast<std::size_t>(std::min<Int>(width, Int{1} << 40)));
  const std::size_t missing = static_cast<std::size_t>(width) - text.size();
  const std::size_t left = missing / 2 + (missing & static_cast<std::size_t>(width) & 1);
  return Text(left, fill) + Text(text) + Text(missing - left, fill);
}

Value joined(Heap& heap, const Text& separator, const std::vector<Value>& items, bool markup) {
  Text result;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is(Kind::text))
      throw Fault(fmt::format("sequence item {}: expected str instance, {} found", i, type_name(items[i])));
    Heap::check_text(result.size() + separator.size() + items[i].text().size());
    if (i > 0) result += separator;
    result += items[i].text();
  }
  return heap.text(std::move(result), markup);
}

TextView stripped(TextView text, const Text* characters, bool left, bool right) {
  std::u32string dropped;
  if (characters != nullptr)
    for (const char32_t c : *characters) dropped += point(c);
  std::sort(dropped.begin(), dropped.end());
  const auto drop = [&](char32_t c) {
    return characters == nullptr ? is_space(c) : std::binary_search(dropped.begin(), dropped.end(), point(c));
  };
  while (left && !text.empty() && drop(text.front())) text.remove_prefix(1);
  while (right && !text.empty() && drop(text.back())) text.remove_suffix(1);
  return text;
}

namespace {

Value dict_get(const Call& call) {
  const Value* found = call.self.get<Dict>().find(*call.given[0]);
  if (found != nullptr) return found->as_data(call.self.data());
  return call.has(1) ? *call.given[1] : Value();
}

Value dict_view(const Call& call, Kind kind) {
  std::vector<Value> items;
  const bool data = call.self.data();
  for (const auto& [key, value] : call.self.get<Dict>().entries) {
    if (kind == Kind::items)
      items.push_back(call.heap.sequence(Kind::tuple, {key.as_data(data), value.as_data(data)}, data));
    else
      items.push_back((kind == Kind::keys ? key : value).as_data(data));
  }
  return call.heap.sequence(kind, std::move(items), data);
}
Value dict_items(const Call& call) {
  return dict_view(call, Kind::items);
}
Value dict_keys(const Call& call) {
  return dict_view(call, Kind::keys);
}
Value dict_values(const Call& call) {
  return dict_view(call, Kind::values);
}
Value copy(const Call& call) {
  return call.self;
}

constexpr std::array dict_methods = std::to_array<Native>({
    {"copy", copy},
    {"get", dict_get, {"key", "default"}, 1},
    {"items", dict_items},
    {"keys", dict_keys},
    {"values", dict_values},
});

Value list_count(const Call& call) {
  Int count = 0;
  for (const Value& item : call.self.get<Sequence>().items) count += equal(call.heap, item, *call.given[0]) ? 1 : 0;
  return Value::integer(count);
}

Value list_index(const Call& call) {
  const std::vector<Value>& items = call.self.get<Sequence>().items;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (equal(call.heap, items[i], *call.given[0])) return Value::integer(static_cast<Int>(i));
  throw Fault(to_utf8(to_repr(call.heap, *call.given[0]).substr(0, 64)) + " is not in list");
}

constexpr std::array list_methods = std::to_array<Native>({
    {"copy", copy},
    {"count", list_count, {"value"}, 1},
    {"index", list_index, {"value"}, 1},
});

}  // namespace

const Native* find_method(const Value& object, std::string_view name) {
  switch (object.kind()) {
    case Kind::text:
      return find_text_method(name);
    case Kind::dict:
      return find_native(dict_methods, name);
    case Kind::list:
      return find_native(list_methods, name);
    case Kind::tuple:
      return name == "copy" ? nullptr : find_native(list_methods, name);
    default:
      return nullptr;
  }
}

bool is_changing_method(const Value& object, std::string_view name) {
  constexpr std::array of_list = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};
  constexpr std::array of_dict = {"clear", "pop", "popitem", "setdefault", "update"};
  const auto is_name = [name](const char* other) { return name == other; };
  if (object.is(Kind::list)) return std::any_of(of_list.begin(), of_list.end(), is_name);
  return object.is(Kind::dict) && std::any_of(of_dict.begin(), of_dict.end(), is_name);
}

}  // namespace millrace::jinja
