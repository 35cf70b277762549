#include "loader/jinja_value.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/jinja_loop.h"

namespace millrace::jinja {

Value Value::as_data(bool data) const {
  Value copy = *this;
  copy.data_ = data_ || data;
  return copy;
}

const Text& Value::text() const {
  return get<String>().text;
}

bool Value::truth() const {
  switch (kind_) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
      return boolean();
    case Kind::integer:
      return integer() != 0;
    case Kind::real:
      return real() != 0;
    case Kind::text:
      return !text().empty();
    case Kind::list:
    case Kind::tuple:
    case Kind::keys:
    case Kind::values:
    case Kind::items:
      return !get<Sequence>().items.empty();
    case Kind::dict:
      return !get<Dict>().entries.empty();
    case Kind::range:
      return get<Range>().size() > 0;
    default:
      return true;  // as Python's generators, whatever they hold
  }
}

int Value::depth() const noexcept {
  if (is_sequence()) return get<Sequence>().depth;
  if (is(Kind::dict)) return get<Dict>().depth;
  if (is(Kind::function)) return get<Function>().self.depth() + 1;
  if (is(Kind::loop)) return loop()->depth;
  return 0;
}

const void* Value::address() const noexcept {
  return std::visit(
      [](const auto& held) -> const void* {
        using Type = std::decay_t<decltype(held)>;
        if constexpr (std::is_pointer_v<Type>) {
          return held;
        } else if constexpr (requires { held.get(); }) {
          return held.get();
        } else {
          return nullptr;
        }
      },
      held_);
}

Heap::Heap() = default;

Heap::~Heap() {
  clear_spaces();
}

void Heap::over_limit(const char* what) {
  throw Fault(fmt::format("over the limit: {}", what));
}

void Heap::check_text(std::size_t characters) {
  if (characters > longest_text) over_limit("a text of more than 16777216 characters");
}

void Heap::check_list(std::size_t items) {
  if (items > longest_list) over_limit("a list of more than 1000000 items");
}

Value Heap::text(Text text, bool markup) {
  check_text(text.size());
  step(1 + text.size() / 32);
  const std::size_t bytes = text.size() * sizeof(char32_t) + sizeof(String);
  return Value::object(Kind::text, std::make_shared<const String>(std::move(text), markup, this, bytes));
}

namespace {

int depth_around(const Value& inner, int depth) {
  const int result = std::max(depth, inner.depth() + 1);
  if (result > deepest_nesting) throw Fault(fmt::format("nesting of values deeper than {}", deepest_nesting));
  return result;
}

}  // namespace

Value Heap::sequence(Kind kind, std::vector<Value> items, bool data, bool group) {
  check_list(items.size());
  step(1 + items.size());
  int depth = 1;
  for (const Value& item : items) depth = depth_around(item, depth);
  const std::size_t bytes = items.size() * sizeof(Value) + sizeof(Sequence);
  return Value::object(kind, std::make_shared<const Sequence>(std::move(items), depth, group, this, bytes), data);
}

Value Heap::undefined(std::string message) {
  const std::size_t bytes = message.size() + sizeof(Undefined);
  return Value::object(Kind::undefined, std::make_shared<const Undefined>(std::move(message), this, bytes));
}

Value Heap::range(Int start, Int stop, Int step) {
  constexpr Int most = 100'000, farthest = Int{1} << 100;
  for (const Int bound : {start, stop, step})
    if (bound > farthest || bound < -farthest) throw Fault("over the limit: a range beyond 100 bits");
  if (step == 0) throw Fault("range() arg 3 must not be zero");
  const Int distance = step > 0 ? stop - start : start - stop;
  const Int stride = step > 0 ? step : -step;
  if (distance > 0 && (distance - 1) / stride >= most)
    throw Fault("over the limit: a range of more than 100000 numbers");
  return Value::object(Kind::range, std::make_shared<const Range>(Range{start, stop, step}));
}

Namespace* Heap::new_space() {
  take(sizeof(Namespace));
  spaces_.push_back(std::make_unique<Namespace>(*this));
  return spaces_.back().get();
}

void Heap::clear_spaces() {
  for (const auto& space : spaces_) space->attributes.entries.clear();
}

Dict::Dict(Heap& heap) : heap_(heap), index_(KeyLess{&heap}) {}

Dict::~Dict() {
  heap_.give(bytes_);
}

void Dict::set(const Value& key, Value value) {
  depth = depth_around(value, depth_around(key, depth));
  const auto found = index_.find(key);
  if (found != index_.end()) {
    entries[found->second].second = std::move(value);
    return;
  }
  Heap::check_list(entries.size() + 1);
  constexpr std::size_t entry_bytes = 3 * sizeof(Value) + 64;
  heap_.take(entry_bytes);
  bytes_ += entry_bytes;
  index_.emplace(key, entries.size());
  entries.emplace_back(key, std::move(value));
}

const Value* Dict::find(const Value& key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &entries[found->second].second;
}

const Value* Dict::find(std::string_view key) const {
  return find(heap_.text(key));
}

std::size_t Range::size() const noexcept {
  const Int distance = step > 0 ? stop - start : start - stop;
  const Int stride = step > 0 ? step : -step;
  return distance <= 0 ? 0 : static_cast<std::size_t>((distance + stride - 1) / stride);
}

bool is_iterable(const Value& value) {
  return value.is_sequence() || value.is(Kind::text) || value.is(Kind::dict) || value.is(Kind::range) ||
         value.is(Kind::undefined);
}

Cursor::Cursor(Heap& heap, const Value& value) : value_(value) {
  heap.step();
  if (!is_iterable(value)) throw Fault(fmt::format("'{}' object is not iterable", type_name(value)));
  if (value.is(Kind::generator)) {
    first_ = value.get<Sequence>().taken;
    value.get<Sequence>().taken = value.get<Sequence>().items.size();
    size_ = value.get<Sequence>().items.size() - first_;
  } else {
    size_ = value.is(Kind::undefined) ? 0 : length(value);
  }
}

Value Cursor::at(Heap& heap, std::size_t index) const {
  if (value_.is_sequence()) return value_.get<Sequence>().items[first_ + index].as_data(value_.data());
  if (value_.is(Kind::dict)) return value_.get<Dict>().entries[index].first.as_data(value_.data());
  if (value_.is(Kind::range)) return Value::integer(value_.get<Range>().at(index), value_.data());
  return heap.text(Text(1, value_.text()[index]));
}

std::vector<Value> collect(Heap& heap, const Value& iterable) {
  const Cursor cursor(heap, iterable);
  Heap::check_list(cursor.size());
  heap.step(cursor.size() / 2);
  std::vector<Value> items;
  items.reserve(cursor.size());
  for (std::size_t i = 0; i < cursor.size(); ++i) items.push_back(cursor.at(heap, i));
  return items;
}

bool has_length(const Value& value) {
  return is_iterable(value) ? !value.is(Kind::generator) : value.is(Kind::loop);
}

std::size_t length(const Value& value) {
  if (!has_length(value)) throw Fault(fmt::format("object of type '{}' has no len()", type_name(value)));
  if (value.is_sequence()) return value.get<Sequence>().items.size();
  if (value.is(Kind::dict)) return value.get<Dict>().entries.size();
  if (value.is(Kind::range)) return value.get<Range>().size();
  if (value.is(Kind::loop)) return value.loop()->length();
  return value.is(Kind::undefined) ? 0 : value.text().size();
}

const char* type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return "Undefined";
    case Kind::none:
      return "NoneType";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::text:
      return value.get<String>().markup ? "Markup" : "str";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::generator:
      return "generator";
    case Kind::keys:
      return "dict_keys";
    case Kind::values:
      return "dict_values";
    case Kind::items:
      return "dict_items";
    case Kind::dict:
      return "dict";
    case Kind::range:
      return "range";
    case Kind::space:
      return "Namespace";
    case Kind::function:
      return "function";
    case Kind::macro:
      return "Macro";
    case Kind::loop:
      return "LoopContext";
  }
  return "object";
}

void fail_undefined(const Value& value) {
  throw Fault(value.get<Undefined>().message);
}

}  // namespace millrace::jinja
