// Equality, order and membership of values, as Python's operators have them.
#include <fmt/format.h>

#include <cmath>

#include "loader/jinja_value.h"

namespace millrace::jinja {
namespace {

enum class Order { less, equal, greater, none };

Order order_of(Int a, Int b) {
  if (a == b) return Order::equal;
  return a < b ? Order::less : Order::greater;
}

Order reversed(Order order) {
  if (order == Order::less) return Order::greater;
  return order == Order::greater ? Order::less : order;
}

// Exact, where converting the integer would round it.
Order order_of(Int a, double b) {
  constexpr double beyond = 0x1p126;
  if (std::isnan(b)) return Order::none;
  if (b >= beyond) return Order::less;
  if (b <= -beyond) return Order::greater;
  const double whole = std::trunc(b);
  const Order order = order_of(a, static_cast<Int>(whole));
  if (order != Order::equal || whole == b) return order;
  return b > whole ? Order::less : Order::greater;
}

Order order_of_numbers(const Value& a, const Value& b) {
  if (a.is(Kind::real) && b.is(Kind::real)) {
    if (std::isnan(a.real()) || std::isnan(b.real())) return Order::none;
    if (a.real() == b.real()) return Order::equal;
    return a.real() < b.real() ? Order::less : Order::greater;
  }
  if (a.is(Kind::real)) return reversed(order_of(b.integer(), a.real()));
  return b.is(Kind::real) ? order_of(a.integer(), b.real()) : order_of(a.integer(), b.integer());
}

bool same_items(Heap& heap, const std::vector<Value>& a, const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!equal(heap, a[i], b[i])) return false;
  return true;
}

bool same_entries(Heap& heap, const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.find(key);
    if (other == nullptr || !equal(heap, value, *other)) return false;
  }
  return true;
}

bool same_range(const Range& a, const Range& b) {
  if (a.size() != b.size()) return false;
  return a.size() == 0 || (a.start == b.start && (a.size() == 1 || a.step == b.step));
}

// Kinds of keys that compare with each other.
int key_class(const Value& key) {
  if (key.is_number()) return 1;
  switch (key.kind()) {
    case Kind::none:
      return 0;
    case Kind::text:
      return 2;
    case Kind::tuple:
      return 3;
    case Kind::undefined:
      return 4;
    case Kind::list:
    case Kind::dict:
    case Kind::keys:
    case Kind::items:
    case Kind::space:
      throw Fault(fmt::format("unhashable type: '{}'", type_name(key)));
    default:
      return 5;
  }
}

}  // namespace

bool KeyLess::operator()(const Value& a, const Value& b) const {
  heap->step();
  const int class_a = key_class(a), class_b = key_class(b);
  if (class_a != class_b) return class_a < class_b;
  switch (class_a) {
    case 1: {
      const bool nan_a = a.is(Kind::real) && std::isnan(a.real()), nan_b = b.is(Kind::real) && std::isnan(b.real());
      return nan_a || nan_b ? nan_a && !nan_b : order_of_numbers(a, b) == Order::less;
    }
    case 2:
      heap->work(std::min(a.text().size(), b.text().size()));
      return a.text() < b.text();
    case 3: {
      const std::vector<Value>&first = a.get<Sequence>().items, &second = b.get<Sequence>().items;
      for (std::size_t i = 0; i < first.size() && i < second.size(); ++i) {
        if ((*this)(first[i], second[i])) return true;
        if ((*this)(second[i], first[i])) return false;
      }
      return first.size() < second.size();
    }
    case 5:
      return std::less<>()(a.address(), b.address());
    default:
      return false;
  }
}

bool equal(Heap& heap, const Value& a, const Value& b) {
  heap.step();
  if (a.is_number() && b.is_number()) return order_of_numbers(a, b) == Order::equal;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::undefined:
    case Kind::none:
      return true;
    case Kind::text:
      heap.work(std::min(a.text().size(), b.text().size()));
      return a.text() == b.text();
    case Kind::list:
    case Kind::tuple:
      return a.address() == b.address() || same_items(heap, a.get<Sequence>().items, b.get<Sequence>().items);
    case Kind::dict:
      return a.address() == b.address() || same_entries(heap, a.get<Dict>(), b.get<Dict>());
    case Kind::range:
      return same_range(a.get<Range>(), b.get<Range>());
    default:
      return a.address() == b.address();
  }
}

bool less(Heap& heap, const Value& a, const Value& b, const char* operator_name) {
  heap.step();
  if (a.is(Kind::undefined)) fail_undefined(a);
  if (b.is(Kind::undefined)) fail_undefined(b);
  if (a.is_number() && b.is_number()) {
    const Order order = order_of_numbers(a, b);
    const bool or_equal = operator_name[1] == '=';
    const Order wanted = operator_name[0] == '<' ? Order::less : Order::greater;
    return order == wanted || (or_equal && order == Order::equal);
  }
  const bool both_lists = a.kind() == b.kind() && (a.is(Kind::list) || a.is(Kind::tuple));
  const bool both_texts = a.is(Kind::text) && b.is(Kind::text);
  if (!both_lists && !both_texts)
    throw Fault(fmt::format("'{}' not supported between instances of '{}' and '{}'", operator_name, type_name(a),
                            type_name(b)));
  const auto compare = [operator_name](auto first, auto second) {
    if (operator_name[0] == '<') return operator_name[1] == '=' ? first <= second : first < second;
    return operator_name[1] == '=' ? first >= second : first > second;
  };
  if (both_texts) {
    heap.work(std::min(a.text().size(), b.text().size()));
    return compare(a.text().compare(b.text()), 0);
  }
  const std::vector<Value>&first = a.get<Sequence>().items, &second = b.get<Sequence>().items;
  for (std::size_t i = 0; i < first.size() && i < second.size(); ++i)
    if (!equal(heap, first[i], second[i])) return less(heap, first[i], second[i], operator_name);
  return compare(first.size(), second.size());
}

bool contains(Heap& heap, const Value& container, const Value& item) {
  if (container.is(Kind::text)) {
    if (!item.is(Kind::text))
      throw Fault(fmt::format("'in <string>' requires string as left operand, not {}", type_name(item)));
    heap.work(container.text().size() + item.text().size());
    return find_text(container.text(), item.text()) != nowhere;
  }
  if (container.is(Kind::dict)) return container.get<Dict>().find(item) != nullptr;
  if (!is_iterable(container)) throw Fault(fmt::format("argument of type '{}' is not iterable", type_name(container)));
  const Cursor cursor(heap, container);
  for (std::size_t i = 0; i < cursor.size(); ++i)
    if (equal(heap, cursor.at(heap, i), item)) return true;
  return false;
}

}  // namespace millrace::jinja
