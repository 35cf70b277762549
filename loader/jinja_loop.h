// Loop: what a template sees as `loop` while a for block runs. Items are tested only when they are asked for, as
// Python's generators do. Belongs to one rendering.
#pragma once

#include <functional>
#include <vector>

#include "loader/jinja_value.h"

namespace millrace::jinja {

struct Loop {
  std::vector<Value> items;  // that passed the test so far; the current one is items[at]
  std::size_t at = 0;
  std::vector<Value> rest;  // not tested yet, from rest_at on
  std::size_t rest_at = 0;
  std::function<bool(const Value&)> accepts;                // none: everything
  std::function<Value(Heap&, const Value& items)> recurse;  // of a recursive loop
  std::vector<Value> changed;                               // what loop.changed() was last called with
  bool has_changed = false;
  int depth = 1;
  int level = 1;  // of a recursive loop
  Charge charge;

  explicit Loop(Heap& heap, std::size_t bytes) : charge(&heap, bytes) {}

  bool has(std::size_t index) {
    while (items.size() <= index && rest_at < rest.size()) {
      const Value item = rest[rest_at++];
      if (!accepts || accepts(item)) items.push_back(item);
    }
    return items.size() > index;
  }
  std::size_t length() {
    while (has(items.size())) {
    }
    return items.size();
  }
};

// loop.index, loop.last, ...; null if there is no such attribute.
bool loop_attribute(Heap& heap, const Value& loop, const std::string& name, Value& result);

}  // namespace millrace::jinja
