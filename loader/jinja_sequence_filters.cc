// Filters of lists and of what else can be iterated over.
#include <fmt/format.h>

#include <algorithm>

#include "loader/jinja_access.h"
#include "loader/jinja_filters.h"
#include "loader/jinja_methods.h"
#include "loader/jinja_numbers.h"
#include "loader/jinja_print.h"

namespace millrace::jinja {
namespace {

Value generator(const Call& call, std::vector<Value> items) {
  return call.heap.sequence(Kind::generator, std::move(items), call.self.data());
}

Value to_list(const Call& call) {
  return call.heap.list(collect(call.heap, call.self), call.self.data());
}

Value count(const Call& call) {
  return Value::integer(static_cast<Int>(length(call.self)));
}

Value first(const Call& call) {
  if (call.self.is(Kind::generator)) {
    const Sequence& sequence = call.self.get<Sequence>();
    if (sequence.taken < sequence.items.size()) return sequence.items[sequence.taken++];
  } else if (const Cursor cursor(call.heap, call.self); cursor.size() > 0) {
    return cursor.at(call.heap, 0);
  }
  return call.heap.undefined("there is no first item, the sequence is empty: it is undefined");
}

Value last(const Call& call) {
  if (call.self.is(Kind::generator)) throw Fault("'generator' object is not reversible");
  const Cursor cursor(call.heap, call.self);
  if (cursor.size() > 0) return cursor.at(call.heap, cursor.size() - 1);
  return call.heap.undefined("there is no last item, the sequence is empty: it is undefined");
}

Value reverse(const Call& call) {
  if (call.self.is(Kind::text)) {
    const Text& text = call.self.text();
    return call.heap.text(Text(text.rbegin(), text.rend()), call.self.get<String>().markup);
  }
  std::vector<Value> items = collect(call.heap, call.self);
  std::reverse(items.begin(), items.end());
  return call.self.is(Kind::generator) ? call.heap.list(std::move(items)) : generator(call, std::move(items));
}

Value join(const Call& call) {
  std::vector<Value> texts;
  const bool by_attribute = call.has(1) && !call.given[1]->is(Kind::none);
  for (const Value& item : collect(call.heap, call.self)) {
    const Value value = by_attribute ? get_path(call.heap, item, *call.given[1]) : item;
    texts.push_back(value.is(Kind::text) ? value : call.heap.text(to_str(call.heap, value)));
  }
  return joined(call.heap, call.has(0) ? to_str(call.heap, *call.given[0]) : Text(), texts, false);
}

Value items(const Call& call) {
  if (call.self.is(Kind::undefined)) return generator(call, {});
  if (!call.self.is(Kind::dict)) throw Fault("Can only get item pairs from a mapping.");
  const Native* method = find_method(call.self, "items");
  return generator(call, collect(call.heap, invoke(call.heap, *method, call.self, {})));
}

std::size_t positive(const Call& call, std::size_t index) {
  const Int value = call.integer(index, 0);
  if (value <= 0) throw Fault(fmt::format("{} needs a number above 0, found {}", call.name, int_text(value)));
  return static_cast<std::size_t>(std::min<Int>(value, Int{1} << 40));
}

bool has_fill(const Call& call) {
  return call.has(1) && !call.given[1]->is(Kind::none);
}

Value batch(const Call& call) {
  const std::size_t size = positive(call, 0);
  const std::vector<Value> all = collect(call.heap, call.self);
  std::vector<Value> batches;
  for (std::size_t begin = 0; begin < all.size(); begin += size) {
    const std::size_t end = std::min(begin + size, all.size());
    std::vector<Value> items(all.begin() + static_cast<std::ptrdiff_t>(begin),
                             all.begin() + static_cast<std::ptrdiff_t>(end));
    if (has_fill(call)) {
      Heap::check_list(size);
      items.resize(size, *call.given[1]);
    }
    batches.push_back(call.heap.list(std::move(items), call.self.data()));
  }
  return generator(call, std::move(batches));
}

Value slice(const Call& call) {
  const std::size_t slices = positive(call, 0);
  Heap::check_list(slices);
  const std::vector<Value> all = collect(call.heap, call.self);
  const std::size_t each = all.size() / slices, longer = all.size() % slices;
  std::vector<Value> result;
  auto at = all.begin();
  for (std::size_t i = 0; i < slices; ++i) {
    const auto end = at + static_cast<std::ptrdiff_t>(each + (i < longer ? 1 : 0));
    std::vector<Value> items(at, end);
    at = end;
    if (has_fill(call) && i >= longer) items.push_back(*call.given[1]);
    result.push_back(call.heap.list(std::move(items), call.self.data()));
  }
  return generator(call, std::move(result));
}

Value sum(const Call& call) {
  const bool by_attribute = call.has(0) && !call.given[0]->is(Kind::none);
  Value total = call.has(1) ? *call.given[1] : Value::integer(0);
  for (const Value& item : collect(call.heap, call.self)) {
    const Value value = by_attribute ? get_path(call.heap, item, *call.given[0]) : item;
    total = arithmetic(call.heap, ExpressionKind::add, total, value);
  }
  return total;
}

constexpr std::array filters = std::to_array<Native>({
    {"batch", batch, {"linecount", "fill_with"}, 1},
    {"count", count},
    {"first", first},
    {"items", items},
    {"join", join, {"d", "attribute"}},
    {"last", last},
    {"length", count},
    {"list", to_list},
    {"reverse", reverse},
    {"slice", slice, {"slices", "fill_with"}, 1},
    {"sum", sum, {"attribute", "start"}},
});

}  // namespace

std::span<const Native> sequence_filters() {
  return filters;
}

}  // namespace millrace::jinja
