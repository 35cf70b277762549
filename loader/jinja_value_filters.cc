// Filters of numbers and of values of any kind.
#include <fmt/format.h>

#include <cmath>

#include "loader/jinja_access.h"
#include "loader/jinja_filters.h"
#include "loader/jinja_numbers.h"
#include "loader/jinja_print.h"

namespace millrace::jinja {
namespace {

Value absolute(const Call& call) {
  const Value& value = call.self;
  if (value.is(Kind::undefined)) fail_undefined(value);
  if (!value.is_number()) throw Fault(fmt::format("bad operand type for abs(): '{}'", type_name(value)));
  if (value.is(Kind::real)) return Value::real(std::abs(value.real()), value.data());
  return Value::integer(value.integer() < 0 ? -value.integer() : value.integer(), value.data());
}

Value attribute(const Call& call) {
  if (call.self.is(Kind::dict)) {
    const Value empty = Value::object(Kind::dict, std::make_shared<const Dict>(call.heap));
    return get_attribute(call.heap, empty, to_utf8(call.text(0)), *call.given[0]);
  }
  return get_attribute(call.heap, call.self, to_utf8(call.text(0)), *call.given[0]);
}

Value otherwise(const Call& call) {
  const bool replace = call.self.is(Kind::undefined) || (call.truth(1, false) && !call.self.truth());
  if (!replace) return call.self;
  return call.has(0) ? *call.given[0] : call.heap.text("");
}

bool is_data(const Value& value) {
  return value.data() || (value.is(Kind::text) && any_mark(value.text()) != 0);
}

// float(): none for what is no number.
Value as_float(const Value& value) {
  if (value.is_number()) return Value::real(value.real(), value.data());
  if (!value.is(Kind::text)) return {};
  return parse_float(to_utf8(value.text())).as_data(is_data(value));
}

Value to_integer(const Call& call) {
  const Value& value = call.self;
  if (value.is(Kind::undefined)) fail_undefined(value);
  if (value.is_integral()) return Value::integer(value.integer(), value.data());
  if (value.is(Kind::text)) {
    call.heap.work(value.text().size());
    const Int base = call.integer(1, 10);
    if (base != 0 && (base < 2 || base > 36)) throw Fault("int() base must be >= 2 and <= 36, or 0");
    const Value number = parse_int(to_utf8(value.text()), static_cast<int>(base));
    if (number.is(Kind::integer)) return number.as_data(is_data(value));
  }
  const Value number = as_float(value);
  if (value.is(Kind::real) && std::isinf(value.real())) throw Fault("cannot convert float infinity to integer");
  if (number.is(Kind::real) && std::isfinite(number.real()))
    return Value::integer(truncated(number.real()), number.data());
  return call.has(0) ? *call.given[0] : Value::integer(0);
}

Value to_float(const Call& call) {
  if (call.self.is(Kind::undefined)) fail_undefined(call.self);
  const Value number = as_float(call.self);
  if (number.is(Kind::real)) return number;
  return call.has(0) ? *call.given[0] : Value::real(0);
}

// As Python's round(): to the nearest decimal text, ties by the exact value of the number.
double rounded(double value, Int precision) {
  if (!std::isfinite(value) || precision > 300) return value;
  if (precision < -300) return std::copysign(0.0, value);
  if (precision >= 0) return parse_float(fmt::format("{:.{}f}", value, static_cast<int>(precision))).real();
  const double scale = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(value / scale) * scale;
}

Int rounded(Int value, Int precision) {
  if (precision >= 0) return value;
  if (precision < -36) return 0;
  Int scale = 1;
  for (Int i = 0; i < -precision; ++i) scale *= 10;
  Int rest = value % scale;
  if (rest < 0) rest += scale;
  const Int down = value - rest;
  const bool up = rest * 2 > scale || (rest * 2 == scale && (down / scale) % 2 != 0);
  return up ? down + scale : down;
}

Value round(const Call& call) {
  const Value& value = call.self;
  const std::string method = call.has(1) ? to_utf8(call.text(1)) : "common";
  const Int precision = call.integer(0, 0);
  if (value.is(Kind::undefined)) fail_undefined(value);
  if (method != "common" && method != "ceil" && method != "floor") throw Fault("method must be common, ceil or floor");
  if (!value.is_number()) throw Fault(fmt::format("type {} doesn't define __round__ method", type_name(value)));
  if (method == "common") {
    if (value.is_integral()) return Value::integer(rounded(value.integer(), precision), value.data());
    return Value::real(rounded(value.real(), precision), value.data());
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.real() * scale;
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale, value.data());
}

std::optional<Text> separator_at(const Call& call, const std::vector<Value>& pair, std::size_t index) {
  if (!pair[index].is(Kind::text)) throw Fault(fmt::format("{}: separators must be two texts", call.name));
  return pair[index].text();
}

Value json(const Call& call) {
  JsonStyle style;
  style.ensure_ascii = call.truth(0, false);
  style.sort_keys = call.truth(3, false);
  if (call.has(1) && call.given[1]->is(Kind::text)) {
    style.indent = call.text(1);
  } else if (call.has(1) && !call.given[1]->is(Kind::none)) {
    const Int width = std::max<Int>(call.integer(1, 0), 0);
    Heap::check_text(static_cast<std::size_t>(std::min<Int>(width, Int{1} << 40)));
    style.indent = Text(static_cast<std::size_t>(width), U' ');
  }
  if (call.has(2) && !call.given[2]->is(Kind::none)) {
    const std::vector<Value> pair = collect(call.heap, *call.given[2]);
    if (pair.size() != 2) throw Fault(fmt::format("tojson: expected 2 separators, got {}", pair.size()));
    style.item_separator = separator_at(call, pair, 0);
    style.key_separator = separator_at(call, pair, 1);
  }
  return call.heap.text(to_json(call.heap, call.self, style));
}

constexpr std::array filters = std::to_array<Native>({
    {"abs", absolute},
    {"attr", attribute, {"name"}, 1},
    {"d", otherwise, {"default_value", "boolean"}},
    {"default", otherwise, {"default_value", "boolean"}},
    {"float", to_float, {"default"}},
    {"int", to_integer, {"default", "base"}},
    {"round", round, {"precision", "method"}},
    {"tojson", json, {"ensure_ascii", "indent", "separators", "sort_keys"}},
});

}  // namespace

std::span<const Native> value_filters() {
  return filters;
}

}  // namespace millrace::jinja
