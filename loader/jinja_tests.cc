// The tests after `is`.
#include <fmt/format.h>

#include <algorithm>

#include "loader/jinja_filters.h"
#include "loader/jinja_numbers.h"
#include "loader/jinja_print.h"

namespace millrace::jinja {
namespace {

Value truth(bool value) {
  return Value::boolean(value);
}

template <Kind kind>
Value is_kind(const Call& call) {
  return truth(call.self.is(kind));
}

Value defined(const Call& call) {
  return truth(!call.self.is(Kind::undefined));
}
Value boolean_true(const Call& call) {
  return truth(call.self.is(Kind::boolean) && call.self.boolean());
}
Value boolean_false(const Call& call) {
  return truth(call.self.is(Kind::boolean) && !call.self.boolean());
}
Value number(const Call& call) {
  return truth(call.self.is_number());
}
Value callable(const Call& call) {
  const Kind kind = call.self.kind();
  return truth(kind == Kind::function || kind == Kind::macro || kind == Kind::loop || kind == Kind::undefined);
}
Value iterable(const Call& call) {
  return truth(is_iterable(call.self) || call.self.is(Kind::loop));
}
// What has a length and can be indexed.
Value sequence(const Call& call) {
  const Kind kind = call.self.kind();
  return truth(kind == Kind::list || kind == Kind::tuple || kind == Kind::text || kind == Kind::dict ||
               kind == Kind::range || kind == Kind::undefined);
}

Int remainder(const Call& call, const Value& divisor, bool& is_integer) {
  const Value rest = arithmetic(call.heap, ExpressionKind::modulo, call.self, divisor);
  is_integer =
      rest.is_integral() || (rest.is(Kind::real) && rest.real() == static_cast<double>(truncated(rest.real())));
  if (!is_integer) return 0;
  return rest.is_integral() ? rest.integer() : truncated(rest.real());
}
Value odd(const Call& call) {
  bool is_integer = false;
  return truth(remainder(call, Value::integer(2), is_integer) == 1 && is_integer);
}
Value even(const Call& call) {
  bool is_integer = false;
  return truth(remainder(call, Value::integer(2), is_integer) == 0 && is_integer);
}
Value divisible(const Call& call) {
  bool is_integer = false;
  return truth(remainder(call, *call.given[0], is_integer) == 0 && is_integer);
}

template <bool (*wanted)(char32_t), bool (*other)(char32_t)>
Value cased(const Call& call) {
  const Text text = to_str(call.heap, call.self);
  call.heap.work(8 * text.size());
  const bool none = std::none_of(text.begin(), text.end(), [](char32_t c) { return other(c) || is_title(c); });
  return truth(none && std::any_of(text.begin(), text.end(), wanted));
}

Value equal_to(const Call& call) {
  return truth(equal(call.heap, call.self, *call.given[0]));
}
Value not_equal_to(const Call& call) {
  return truth(!equal(call.heap, call.self, *call.given[0]));
}

template <char sign, char second>
Value ordered(const Call& call) {
  constexpr char name[3] = {sign, second, 0};
  return truth(less(call.heap, call.self, *call.given[0], name));
}

Value in(const Call& call) {
  return truth(contains(call.heap, *call.given[0], call.self));
}

// Scalars and texts have no identity of their own here; equal ones of one kind are the same.
Value same_as(const Call& call) {
  const Value &a = call.self, &b = *call.given[0];
  if (a.kind() != b.kind()) return truth(false);
  const bool by_value = a.is_number() || a.is(Kind::text) || a.is(Kind::none);
  return truth(by_value ? equal(call.heap, a, b) : a.address() == b.address());
}

Value escaped(const Call& call) {
  return truth(call.self.is(Kind::text) && call.self.get<String>().markup);
}
Value filter(const Call& call) {
  return truth(call.self.is(Kind::text) && is_filter(to_utf8(call.self.text())));
}
Value test(const Call& call) {
  return truth(call.self.is(Kind::text) && is_test(to_utf8(call.self.text())));
}

constexpr std::array tests = std::to_array<Native>({
    {"!=", not_equal_to, {"other"}, 1},
    {"<", ordered<'<', 0>, {"other"}, 1},
    {"<=", ordered<'<', '='>, {"other"}, 1},
    {"==", equal_to, {"other"}, 1},
    {">", ordered<'>', 0>, {"other"}, 1},
    {">=", ordered<'>', '='>, {"other"}, 1},
    {"boolean", is_kind<Kind::boolean>},
    {"callable", callable},
    {"defined", defined},
    {"divisibleby", divisible, {"num"}, 1},
    {"eq", equal_to, {"other"}, 1},
    {"equalto", equal_to, {"other"}, 1},
    {"escaped", escaped},
    {"even", even},
    {"false", boolean_false},
    {"filter", filter},
    {"float", is_kind<Kind::real>},
    {"ge", ordered<'>', '='>, {"other"}, 1},
    {"greaterthan", ordered<'>', 0>, {"other"}, 1},
    {"gt", ordered<'>', 0>, {"other"}, 1},
    {"in", in, {"seq"}, 1},
    {"integer", is_kind<Kind::integer>},
    {"iterable", iterable},
    {"le", ordered<'<', '='>, {"other"}, 1},
    {"lessthan", ordered<'<', 0>, {"other"}, 1},
    {"lower", cased<is_lower, is_upper>},
    {"lt", ordered<'<', 0>, {"other"}, 1},
    {"mapping", is_kind<Kind::dict>},
    {"ne", not_equal_to, {"other"}, 1},
    {"none", is_kind<Kind::none>},
    {"number", number},
    {"odd", odd},
    {"sameas", same_as, {"other"}, 1},
    {"sequence", sequence},
    {"string", is_kind<Kind::text>},
    {"test", test},
    {"true", boolean_true},
    {"undefined", is_kind<Kind::undefined>},
    {"upper", cased<is_upper, is_lower>},
});

}  // namespace

bool is_test(std::string_view name) {
  return find_native(tests, name) != nullptr;
}

bool apply_test(Heap& heap, std::string_view name, const Value& value, const Arguments& arguments) {
  const Native* found = find_native(tests, name);
  if (found == nullptr) throw Fault("there is no test named '" + std::string(name) + "'");
  return invoke(heap, *found, value, arguments).boolean();
}

}  // namespace millrace::jinja
