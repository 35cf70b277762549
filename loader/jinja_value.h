// Values of the template engine with Python's meaning, and the Heap that accounts for them. Containers never change
// once made (templates may not change what they are given), so a value may be copied freely: copies share.
// Everything of one rendering belongs to one thread and to one Heap, which outlives it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "loader/jinja_text.h"

namespace millrace::jinja {

__extension__ typedef __int128 Int;  // Python's integers are unbounded; a result beyond 127 bits is an error here

// What a template does wrong while it runs; becomes an Error with the template's name and line.
class Fault : public std::runtime_error {
 public:
  explicit Fault(const std::string& message, bool raised = false) : std::runtime_error(message), raised_(raised) {}
  bool raised() const noexcept { return raised_; }  // by raise_exception(): the message is the template's own

 private:
  bool raised_;
};

enum class Kind : std::uint8_t {
  undefined,
  none,
  boolean,
  integer,
  real,
  text,
  list,
  tuple,
  generator,
  keys,
  values,
  items,  // all of them Sequences
  dict,
  range,
  space,
  function,
  macro,
  loop,
};

class Value;
struct Loop;
struct Macro;
struct Namespace;
struct Undefined;
struct String;
struct Sequence;
struct Dict;
struct Range;
struct Function;
struct Arguments;

constexpr int deepest_nesting = 200;                             // of containers, of expressions and blocks
constexpr std::size_t longest_list = 1'000'000;                  // items
constexpr std::size_t longest_text = std::size_t{1} << 24;       // characters
constexpr std::size_t most_memory_bytes = std::size_t{1} << 27;  // of all values that live at one time
constexpr std::size_t most_steps = 10'000'000;

class Value {
 public:
  Value() = default;  // none
  static Value boolean(bool value, bool data = false) { return {Kind::boolean, value, data}; }
  static Value integer(Int value, bool data = false) { return {Kind::integer, value, data}; }
  static Value real(double value, bool data = false) { return {Kind::real, value, data}; }
  template <class Object>
  static Value object(Kind kind, std::shared_ptr<const Object> object, bool data = false) {
    return {kind, std::move(object), data};
  }
  static Value space(Namespace* space) { return {Kind::space, space, false}; }
  static Value macro(const Macro* macro) { return {Kind::macro, macro, false}; }
  static Value loop(std::shared_ptr<Loop> loop) { return {Kind::loop, std::move(loop), false}; }

  Kind kind() const noexcept { return kind_; }
  bool is(Kind kind) const noexcept { return kind_ == kind; }
  bool is_number() const noexcept { return is(Kind::boolean) || is(Kind::integer) || is(Kind::real); }
  bool is_integral() const noexcept { return is(Kind::boolean) || is(Kind::integer); }
  bool is_sequence() const noexcept { return kind_ >= Kind::list && kind_ <= Kind::items; }

  // Whether it came in with the data of a request, or was computed from what did. A text says so for each character.
  bool data() const noexcept { return data_; }
  char32_t mark() const noexcept { return data_ ? data_mark : 0; }
  Value as_data(bool data = true) const;

  // Only for the kinds that fit.
  bool boolean() const { return std::get<bool>(held_); }
  Int integer() const { return is(Kind::boolean) ? Int{boolean()} : std::get<Int>(held_); }
  double real() const { return is(Kind::real) ? std::get<double>(held_) : static_cast<double>(integer()); }
  template <class Object>
  const Object& get() const {
    return *std::get<std::shared_ptr<const Object>>(held_);
  }
  const Text& text() const;
  Namespace& space() const { return *std::get<Namespace*>(held_); }
  const Macro& macro() const { return *std::get<const Macro*>(held_); }
  const std::shared_ptr<Loop>& loop() const { return std::get<std::shared_ptr<Loop>>(held_); }

  bool truth() const;                    // without side effects; a Loop counts as true
  int depth() const noexcept;            // 0 for what holds no values
  const void* address() const noexcept;  // of the object, null for scalars

 private:
  using Held =
      std::variant<std::monostate, bool, Int, double, std::shared_ptr<const Undefined>, std::shared_ptr<const String>,
                   std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>, std::shared_ptr<const Range>,
                   std::shared_ptr<const Function>, std::shared_ptr<Loop>, Namespace*, const Macro*>;
  Value(Kind kind, Held held, bool data) : held_(std::move(held)), kind_(kind), data_(data) {}

  Held held_;
  Kind kind_ = Kind::none;
  bool data_ = false;
};

// Counts steps and bytes of one rendering; a Fault when there are too many.
class Heap {
 public:
  void step(std::size_t count = 1) {
    steps_ += count;
    if (steps_ > most_steps) over_limit("more than 10000000 evaluation steps");
  }
  void work(std::size_t characters) { step(characters / 32); }
  void take(std::size_t bytes) {
    bytes_ += bytes;
    if (bytes_ > most_memory_bytes) over_limit("more than 128 MiB of values");
  }
  void give(std::size_t bytes) noexcept { bytes_ -= bytes; }
  // Before something of this size is built.
  static void check_text(std::size_t characters);
  static void check_list(std::size_t items);

  Value text(Text text, bool markup = false);
  Value text(std::string_view ascii) { return this->text(to_text(ascii)); }
  // `group`: a tuple of groupby(), whose items are also its attributes grouper and list.
  Value sequence(Kind kind, std::vector<Value> items, bool data = false, bool group = false);
  Value list(std::vector<Value> items, bool data = false) { return sequence(Kind::list, std::move(items), data); }
  Value tuple(std::vector<Value> items) { return sequence(Kind::tuple, std::move(items)); }
  Value undefined(std::string message);
  Value range(Int start, Int stop, Int step);
  Namespace* new_space();
  void clear_spaces();  // breaks what refers to each other in a ring

  Heap();
  ~Heap();
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

 private:
  [[noreturn]] static void over_limit(const char* what);

  std::size_t steps_ = 0, bytes_ = 0;
  std::vector<std::unique_ptr<Namespace>> spaces_;
};

// Bytes taken from a heap for as long as the object lives.
class Charge {
 public:
  Charge() = default;
  Charge(Heap* heap, std::size_t bytes) : heap_(heap), bytes_(bytes) {
    if (heap_ != nullptr) heap_->take(bytes_);
  }
  ~Charge() {
    if (heap_ != nullptr) heap_->give(bytes_);
  }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;

 private:
  Heap* heap_ = nullptr;
  std::size_t bytes_ = 0;
};

struct Undefined {
  Undefined(std::string reason, Heap* heap, std::size_t bytes) : message(std::move(reason)), charge(heap, bytes) {}
  std::string message;  // why, for the error when it is used
  Charge charge;
};

struct String {
  explicit String(Text characters, bool is_markup = false, Heap* heap = nullptr, std::size_t bytes = 0)
      : text(std::move(characters)), markup(is_markup), charge(heap, bytes) {}
  Text text;
  bool markup;  // escaped for HTML already
  Charge charge;
};

struct Sequence {
  Sequence(std::vector<Value> values, int nesting, bool is_group, Heap* heap, std::size_t bytes)
      : items(std::move(values)), depth(nesting), group(is_group), charge(heap, bytes) {}
  std::vector<Value> items;
  int depth;
  bool group;
  mutable std::size_t taken = 0;  // of a generator: items that are gone
  Charge charge;
};

struct KeyLess {
  Heap* heap;
  bool operator()(const Value& a, const Value& b) const;
};

// Keeps the order in which keys came.
struct Dict {
  explicit Dict(Heap& heap);
  // Replaces the value of an equal key. Fault if the key cannot be one.
  void set(const Value& key, Value value);
  const Value* find(const Value& key) const;  // Fault as above
  const Value* find(std::string_view key) const;

  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;

 private:
  Heap& heap_;
  std::size_t bytes_ = 0;
  std::map<Value, std::size_t, KeyLess> index_;

 public:
  ~Dict();
  Dict(const Dict&) = delete;
  Dict& operator=(const Dict&) = delete;
};

struct Range {
  Int start, stop, step;
  std::size_t size() const noexcept;
  Int at(std::size_t index) const noexcept { return start + static_cast<Int>(index) * step; }
};

// namespace(): the one thing a template can change. Belongs to the Heap.
struct Namespace {
  explicit Namespace(Heap& heap) : attributes(heap) {}
  Dict attributes;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
  bool data_names = false;  // some of the names came in with the data of a request

  Text name_text(const std::string& name) const { return to_text(name, data_names ? data_mark : 0); }
};

// A function of the engine or a method bound to its object.
struct Function {
  Function(std::string function_name, Value object, std::function<Value(Heap&, const Value&, const Arguments&)> body,
           Heap& heap)
      : name(std::move(function_name)), self(std::move(object)), call(std::move(body)), charge(&heap, 160) {}
  std::string name;
  Value self;
  std::function<Value(Heap&, const Value& self, const Arguments&)> call;
  Charge charge;
};

// Walks through what Python can iterate over, by index; a generator gives up its items at once.
class Cursor {
 public:
  // Fault for what is not iterable.
  Cursor(Heap& heap, const Value& value);
  std::size_t size() const noexcept { return size_; }
  Value at(Heap& heap, std::size_t index) const;

 private:
  Value value_;
  std::size_t size_ = 0, first_ = 0;
};

bool is_iterable(const Value& value);
std::vector<Value> collect(Heap& heap, const Value& iterable);

// Python's len(); Fault for what has none.
std::size_t length(const Value& value);
bool has_length(const Value& value);

// "str", "NoneType", ...
const char* type_name(const Value& value);
// Fault with the reason why `value`, which is undefined, is.
[[noreturn]] void fail_undefined(const Value& value);

// Equality, order and membership as Python's ==, < and in. less() is a Fault for what has no order.
bool equal(Heap& heap, const Value& a, const Value& b);
bool less(Heap& heap, const Value& a, const Value& b, const char* operator_name = "<");
bool contains(Heap& heap, const Value& container, const Value& item);

}  // namespace millrace::jinja
