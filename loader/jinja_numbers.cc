#include "loader/jinja_numbers.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <string>

#include "loader/jinja_format.h"
#include "loader/jinja_html.h"

namespace millrace::jinja {
namespace {

constexpr Int most = (((Int{1} << 125) - 1) << 1 | 1) + (Int{1} << 126);  // 2^127 - 1

[[noreturn]] void fail_large() {
  throw Fault("over the limit: an integer of more than 127 bits");
}

[[noreturn]] void fail_operands(const char* sign, const Value& a, const Value& b) {
  throw Fault(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", sign, type_name(a), type_name(b)));
}

Int magnitude(Int value) {
  return value < 0 ? -value : value;
}

Int checked_sum(Int a, Int b) {
  if (b > 0 ? a > most - b : a < -most - b) fail_large();
  return a + b;
}

Int checked_product(Int a, Int b) {
  if (b != 0 && magnitude(a) > most / magnitude(b)) fail_large();
  return a * b;
}

Int floor_quotient(Int a, Int b) {
  if (b == 0) throw Fault("integer division or modulo by zero");
  const Int quotient = a / b;
  return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

double float_modulo(double a, double b) {
  if (b == 0) throw Fault("float modulo by zero");
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double float_quotient(double a, double b) {
  if (b == 0) throw Fault("float floor division by zero");
  const double quotient = (a - float_modulo(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Int int_power(Int base, Int exponent) {
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0) result = checked_product(result, base);
    exponent >>= 1;
    if (exponent > 0 && magnitude(base) > 1) base = checked_product(base, base);
  }
  // A base of -1, 0 or 1 is its own square but for the sign.
  return result;
}

Value power(const Value& a, const Value& b, bool data) {
  if (a.is_integral() && b.is_integral() && b.integer() >= 0) {
    const Int base = a.integer();
    if (magnitude(base) <= 1) {
      const bool odd = (b.integer() & 1) != 0;
      const Int result = b.integer() == 0 ? 1 : base < 0 && !odd ? 1 : base;
      return Value::integer(result, data);
    }
    return Value::integer(int_power(base, b.integer()), data);
  }
  if (a.real() == 0 && b.real() < 0) throw Fault("0.0 cannot be raised to a negative power");
  const double result = std::pow(a.real(), b.real());
  if (std::isnan(result) && !std::isnan(a.real()) && !std::isnan(b.real()))
    throw Fault("complex numbers are not supported");
  if (std::isinf(result) && !std::isinf(a.real()) && !std::isinf(b.real()))
    throw Fault("over the limit: a power too large for a float");
  return Value::real(result, data);
}

Value of_integers(ExpressionKind operation, Int a, Int b, bool data) {
  switch (operation) {
    case ExpressionKind::add:
      return Value::integer(checked_sum(a, b), data);
    case ExpressionKind::subtract:
      return Value::integer(checked_sum(a, -b), data);
    case ExpressionKind::multiply:
      return Value::integer(checked_product(a, b), data);
    case ExpressionKind::floor_divide:
      return Value::integer(floor_quotient(a, b), data);
    case ExpressionKind::modulo:
      return Value::integer(a - floor_quotient(a, b) * b, data);
    default:
      if (b == 0) throw Fault("division by zero");
      return Value::real(static_cast<double>(a) / static_cast<double>(b), data);
  }
}

Value of_floats(ExpressionKind operation, double a, double b, bool data) {
  switch (operation) {
    case ExpressionKind::add:
      return Value::real(a + b, data);
    case ExpressionKind::subtract:
      return Value::real(a - b, data);
    case ExpressionKind::multiply:
      return Value::real(a * b, data);
    case ExpressionKind::floor_divide:
      return Value::real(float_quotient(a, b), data);
    case ExpressionKind::modulo:
      return Value::real(float_modulo(a, b), data);
    default:
      if (b == 0) throw Fault("float division by zero");
      return Value::real(a / b, data);
  }
}

Value sum(Heap& heap, const Value& a, const Value& b) {
  if (a.is(Kind::text) && b.is(Kind::text)) {
    Heap::check_text(a.text().size() + b.text().size());
    const bool first = a.get<String>().markup, second = b.get<String>().markup;
    if (first == second) return heap.text(a.text() + b.text(), first);
    return heap.text(escaped(heap, a) + escaped(heap, b), true);
  }
  const bool lists = (a.is(Kind::list) || a.is(Kind::tuple)) && a.kind() == b.kind();
  if (lists) {
    const std::vector<Value>&first = a.get<Sequence>().items, &second = b.get<Sequence>().items;
    Heap::check_list(first.size() + second.size());
    std::vector<Value> items = first;
    items.insert(items.end(), second.begin(), second.end());
    return heap.sequence(a.kind(), std::move(items), a.data() || b.data());
  }
  if (a.is(Kind::text) || a.is(Kind::list) || a.is(Kind::tuple))
    throw Fault(fmt::format("can only concatenate {0} (not \"{1}\") to {0}", type_name(a), type_name(b)));
  fail_operands("+", a, b);
}

Value repeated(Heap& heap, const Value& value, Int count) {
  const std::size_t times = count <= 0 ? 0 : static_cast<std::size_t>(std::min<Int>(count, Int{1} << 40));
  const std::size_t size = length(value);
  if (value.is(Kind::text)) {
    Heap::check_text(size * times);
    Text text;
    text.reserve(size * times);
    for (std::size_t i = 0; size > 0 && i < times; ++i) text += value.text();
    return heap.text(std::move(text), value.get<String>().markup);
  }
  Heap::check_list(size * times);
  std::vector<Value> items;
  items.reserve(size * times);
  const std::vector<Value>& once = value.get<Sequence>().items;
  for (std::size_t i = 0; size > 0 && i < times; ++i) items.insert(items.end(), once.begin(), once.end());
  return heap.sequence(value.kind(), std::move(items), value.data());
}

Value product(Heap& heap, const Value& a, const Value& b) {
  const auto repeats = [](const Value& value) {
    return value.is(Kind::text) || value.is(Kind::list) || value.is(Kind::tuple);
  };
  if (repeats(a) && b.is_integral()) return repeated(heap, a, b.integer());
  if (repeats(b) && a.is_integral()) return repeated(heap, b, a.integer());
  if (repeats(a) || repeats(b))
    throw Fault(fmt::format("can't multiply sequence by non-int of type '{}'", type_name(repeats(a) ? b : a)));
  fail_operands("*", a, b);
}

const char* sign_of(ExpressionKind operation) {
  switch (operation) {
    case ExpressionKind::subtract:
      return "-";
    case ExpressionKind::divide:
      return "/";
    case ExpressionKind::floor_divide:
      return "//";
    case ExpressionKind::modulo:
      return "%";
    default:
      return "** or pow()";
  }
}

}  // namespace

Value arithmetic(Heap& heap, ExpressionKind operation, const Value& a, const Value& b) {
  if (a.is(Kind::undefined)) fail_undefined(a);
  if (operation == ExpressionKind::modulo && a.is(Kind::text)) return percent_format(heap, a, b);
  if (b.is(Kind::undefined)) fail_undefined(b);
  const bool data = a.data() || b.data();
  if (a.is_number() && b.is_number()) {
    if (operation == ExpressionKind::power) return power(a, b, data);
    if (a.is_integral() && b.is_integral()) return of_integers(operation, a.integer(), b.integer(), data);
    return of_floats(operation, a.real(), b.real(), data);
  }
  if (operation == ExpressionKind::add) return sum(heap, a, b);
  if (operation == ExpressionKind::multiply) return product(heap, a, b);
  fail_operands(sign_of(operation), a, b);
}

Value negated(const Value& value) {
  if (value.is(Kind::undefined)) fail_undefined(value);
  if (value.is(Kind::real)) return Value::real(-value.real(), value.data());
  if (!value.is_integral()) throw Fault(fmt::format("bad operand type for unary -: '{}'", type_name(value)));
  return Value::integer(-value.integer(), value.data());
}

Value not_negated(const Value& value) {
  if (value.is(Kind::undefined)) fail_undefined(value);
  if (value.is(Kind::real)) return value;
  if (!value.is_integral()) throw Fault(fmt::format("bad operand type for unary +: '{}'", type_name(value)));
  return Value::integer(value.integer(), value.data());
}

namespace {

std::string_view without_space(std::string_view text) {
  constexpr std::string_view blank = " \t\n\r\f\v\x1c\x1d\x1e\x1f";
  const std::size_t begin = text.find_first_not_of(blank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blank) - begin + 1);
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  return c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
}

// Removes the prefix that goes with the base; the base if it was 0. 0 for what is no number.
int read_prefix(std::string_view& text, int base) {
  const char letter = text.size() > 1 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : '\0';
  const int named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  if (named != 0 && (base == 0 || base == named)) {
    text.remove_prefix(2);
    if (text.starts_with('_')) text.remove_prefix(1);
    return named;
  }
  if (base != 0) return base;
  const bool leading_zero = text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != std::string_view::npos;
  return leading_zero ? 0 : 10;
}

}  // namespace

Value parse_int(std::string_view text, int base) {
  text = without_space(text);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  base = read_prefix(text, base);
  if (base == 0 || text.empty() || text.front() == '_' || text.back() == '_') return {};
  if (text.find("__") != std::string_view::npos) return {};
  for (const char c : text)
    if (c != '_' && digit_of(c) >= base) return {};
  Int value = 0;
  for (const char c : text)
    if (c != '_') value = checked_sum(checked_product(value, base), digit_of(c));
  return Value::integer(negative ? -value : value);
}

Value parse_float(std::string_view text) {
  text = without_space(text);
  std::string digits(text);
  std::erase(digits, '_');
  std::string_view unsigned_text = digits;
  if (unsigned_text.starts_with('-') || unsigned_text.starts_with('+')) unsigned_text.remove_prefix(1);
  const bool is_number = !unsigned_text.empty() && (digit_of(unsigned_text[0]) < 10 || unsigned_text[0] == '.') &&
                         unsigned_text.find_first_of("xXpP") == std::string_view::npos;
  std::string lower_case(unsigned_text);
  for (char& c : lower_case) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  const bool is_word = lower_case == "inf" || lower_case == "infinity" || lower_case == "nan";
  if (!is_number && !is_word) return {};
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  if (end != digits.c_str() + digits.size()) return {};
  return Value::real(value);
}

Int truncated(double value) {
  if (std::isnan(value)) throw Fault("cannot convert float NaN to integer");
  if (std::isinf(value)) throw Fault("cannot convert float infinity to integer");
  if (std::abs(value) >= 0x1p126) fail_large();
  return static_cast<Int>(value);
}

}  // namespace millrace::jinja
