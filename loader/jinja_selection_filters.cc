// Filters that choose, order and group items: map, select, sort, groupby and their kin.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "loader/jinja_access.h"
#include "loader/jinja_filters.h"

namespace millrace::jinja {
namespace {

Value generator(const Call& call, std::vector<Value> items) {
  return call.heap.sequence(Kind::generator, std::move(items), call.self.data());
}

Arguments without_first(const Arguments& arguments, std::size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

std::string name_at(const Call& call, std::size_t index) {
  const Value& name = call.all.positional[index];
  if (!name.is(Kind::text)) throw Fault(fmt::format("{} needs the name of a filter or test", call.name));
  return to_utf8(name.text());
}

const Value* named(const Arguments& arguments, std::string_view name) {
  for (const auto& [key, value] : arguments.named)
    if (key == name) return &value;
  return nullptr;
}

Value map(const Call& call) {
  if (!call.self.truth()) return generator(call, {});
  std::vector<Value> items = collect(call.heap, call.self);
  const Value* attribute = named(call.all, "attribute");
  if (call.all.positional.empty() && attribute != nullptr) {
    const Value* otherwise = named(call.all, "default");
    for (const auto& [name, value] : call.all.named)
      if (name != "attribute" && name != "default") throw Fault("Unexpected keyword argument '" + name + "'");
    if (otherwise != nullptr && otherwise->is(Kind::none)) otherwise = nullptr;
    for (Value& item : items) item = get_path(call.heap, item, *attribute, otherwise);
    return generator(call, std::move(items));
  }
  if (call.all.positional.empty()) throw Fault("map requires a filter argument");
  const std::string filter = name_at(call, 0);
  const Arguments rest = without_first(call.all, 1);
  for (Value& item : items) item = apply_filter(call.heap, filter, item, rest);
  return generator(call, std::move(items));
}

template <bool wanted, bool by_attribute>
Value select(const Call& call) {
  if (!call.self.truth()) return generator(call, {});
  constexpr std::size_t skipped = by_attribute ? 1 : 0;
  if (call.all.positional.size() < skipped) throw Fault("Missing parameter for attribute name");
  const bool has_test = call.all.positional.size() > skipped;
  const std::string test = has_test ? name_at(call, skipped) : "";
  const Arguments rest = without_first(call.all, has_test ? skipped + 1 : skipped);
  std::vector<Value> chosen;
  for (const Value& item : collect(call.heap, call.self)) {
    const Value value = by_attribute ? get_path(call.heap, item, call.all.positional[0]) : item;
    const bool passes = has_test ? apply_test(call.heap, test, value, rest) : value.truth();
    if (passes == wanted) chosen.push_back(item);
  }
  return generator(call, std::move(chosen));
}

Value without_case(Heap& heap, const Value& value) {
  if (!value.is(Kind::text)) return value;
  heap.work(8 * value.text().size());
  return heap.text(lower(value.text()));
}

// What sort and its kin compare of an item.
struct Key {
  const Value* attribute;
  bool case_sensitive;
  const Value* otherwise = nullptr;

  Value plain(Heap& heap, const Value& item) const {
    return attribute == nullptr || attribute->is(Kind::none) ? item : get_path(heap, item, *attribute, otherwise);
  }
  Value of(Heap& heap, const Value& item) const {
    const Value value = plain(heap, item);
    return case_sensitive ? value : without_case(heap, value);
  }
};

struct Keyed {
  Value key, item;
};

std::vector<Keyed> sorted(Heap& heap, std::vector<Keyed> entries, bool reverse) {
  std::stable_sort(entries.begin(), entries.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? less(heap, b.key, a.key) : less(heap, a.key, b.key);
  });
  return entries;
}

std::vector<Value> items_of(const std::vector<Keyed>& entries) {
  std::vector<Value> items;
  items.reserve(entries.size());
  for (const Keyed& entry : entries) items.push_back(entry.item);
  return items;
}

// "a,b" sorts by a and then by b. Always a list, as in Jinja: undefined keys are equal then, and no error.
Value sort_key(Heap& heap, const Key& key, const Value& item) {
  if (key.attribute == nullptr || !key.attribute->is(Kind::text)) return heap.list({key.of(heap, item)});
  std::vector<Value> parts;
  TextView rest = key.attribute->text();
  for (bool more = true; more;) {
    const std::size_t comma = rest.find(U',');
    const Value attribute = heap.text(Text(rest.substr(0, comma)));
    parts.push_back(Key{&attribute, key.case_sensitive}.of(heap, item));
    more = comma != nowhere;
    if (more) rest.remove_prefix(comma + 1);
  }
  return heap.list(std::move(parts));
}

Value sort(const Call& call) {
  const Key key{call.given[2], call.truth(1, false)};
  std::vector<Keyed> entries;
  for (const Value& item : collect(call.heap, call.self)) entries.push_back({sort_key(call.heap, key, item), item});
  return call.heap.list(items_of(sorted(call.heap, std::move(entries), call.truth(0, false))), call.self.data());
}

Value dictsort(const Call& call) {
  const std::string by = call.has(1) ? to_utf8(call.text(1)) : "key";
  if (by != "key" && by != "value") throw Fault("You can only sort by either \"key\" or \"value\"");
  if (call.self.is(Kind::undefined)) fail_undefined(call.self);
  if (!call.self.is(Kind::dict)) throw Fault(fmt::format("'{}' object has no attribute 'items'", type_name(call.self)));
  std::vector<Keyed> entries;
  for (const auto& [key, value] : call.self.get<Dict>().entries) {
    const Value& compared = by == "key" ? key : value;
    entries.push_back({call.truth(0, false) ? compared : without_case(call.heap, compared),
                       call.heap.sequence(Kind::tuple, {key, value}, call.self.data())});
  }
  return call.heap.list(items_of(sorted(call.heap, std::move(entries), call.truth(2, false))), call.self.data());
}

Value unique(const Call& call) {
  const Key key{call.given[1], call.truth(0, false)};
  std::set<Value, KeyLess> seen(KeyLess{&call.heap});
  std::vector<Value> items;
  for (const Value& item : collect(call.heap, call.self))
    if (seen.insert(key.of(call.heap, item)).second) items.push_back(item);
  return generator(call, std::move(items));
}

template <bool greatest>
Value extreme(const Call& call) {
  const Key key{call.given[1], call.truth(0, false)};
  const std::vector<Value> items = collect(call.heap, call.self);
  if (items.empty()) return call.heap.undefined("there is no item to choose, the sequence is empty: it is undefined");
  const Value* best = &items[0];
  Value best_key = key.of(call.heap, items[0]);
  for (std::size_t i = 1; i < items.size(); ++i) {
    const Value other = key.of(call.heap, items[i]);
    const bool better = greatest ? less(call.heap, other, best_key, ">") : less(call.heap, other, best_key, "<");
    if (!better) continue;
    best = &items[i];
    best_key = other;
  }
  return *best;
}

Value groupby(const Call& call) {
  const Value* otherwise = call.has(1) && !call.given[1]->is(Kind::none) ? call.given[1] : nullptr;
  const Key key{call.given[0], call.truth(2, false), otherwise};
  std::vector<Keyed> entries;
  for (const Value& item : collect(call.heap, call.self)) entries.push_back({key.of(call.heap, item), item});
  entries = sorted(call.heap, std::move(entries), false);
  std::vector<Value> groups;
  for (std::size_t begin = 0, end; begin < entries.size(); begin = end) {
    std::vector<Value> items;
    for (end = begin; end < entries.size() && equal(call.heap, entries[end].key, entries[begin].key); ++end)
      items.push_back(entries[end].item);
    if (items.empty()) throw Fault("groupby: a key that is not equal to itself");
    const Value grouper = key.plain(call.heap, items[0]);
    const Value members = call.heap.list(std::move(items), call.self.data());
    groups.push_back(call.heap.sequence(Kind::tuple, {grouper, members}, call.self.data(), true));
  }
  return call.heap.list(std::move(groups), call.self.data());
}

constexpr std::array filters = std::to_array<Native>({
    {"dictsort", dictsort, {"case_sensitive", "by", "reverse"}},
    {"groupby", groupby, {"attribute", "default", "case_sensitive"}, 1},
    {"map", map, {}, 0, true},
    {"max", extreme<true>, {"case_sensitive", "attribute"}},
    {"min", extreme<false>, {"case_sensitive", "attribute"}},
    {"reject", select<false, false>, {}, 0, true},
    {"rejectattr", select<false, true>, {}, 0, true},
    {"select", select<true, false>, {}, 0, true},
    {"selectattr", select<true, true>, {}, 0, true},
    {"sort", sort, {"reverse", "case_sensitive", "attribute"}},
    {"unique", unique, {"case_sensitive", "attribute"}},
});

}  // namespace

std::span<const Native> selection_filters() {
  return filters;
}

}  // namespace millrace::jinja
