#include "loader/jinja_loop.h"

namespace millrace::jinja {
namespace {

Value method(Heap& heap, const Value& loop, const char* name, Value (*body)(Heap&, const Value&, const Arguments&)) {
  return Value::object(Kind::function, std::make_shared<const Function>(name, loop, body, heap));
}

Value cycle(Heap&, const Value& loop, const Arguments& arguments) {
  if (arguments.positional.empty()) throw Fault("no items for cycling given");
  return arguments.positional[loop.loop()->at % arguments.positional.size()];
}

// What holds a loop could end up holding itself.
bool holds_loop(Heap& heap, const Value& value) {
  heap.step();
  if (value.is(Kind::loop)) return true;
  if (value.is(Kind::function)) return holds_loop(heap, value.get<Function>().self);
  if (value.is(Kind::dict)) {
    for (const auto& [key, inner] : value.get<Dict>().entries)
      if (holds_loop(heap, key) || holds_loop(heap, inner)) return true;
  } else if (value.is_sequence()) {
    for (const Value& item : value.get<Sequence>().items)
      if (holds_loop(heap, item)) return true;
  }
  return false;
}

Value changed(Heap& heap, const Value& loop, const Arguments& arguments) {
  Loop& state = *loop.loop();
  bool same = state.has_changed && state.changed.size() == arguments.positional.size();
  for (std::size_t i = 0; same && i < state.changed.size(); ++i)
    same = equal(heap, state.changed[i], arguments.positional[i]);
  if (same) return Value::boolean(false);
  for (const Value& value : arguments.positional)
    if (holds_loop(heap, value)) throw Fault("loop.changed() of a loop is not supported");
  state.changed = arguments.positional;
  state.has_changed = true;
  return Value::boolean(true);
}

}  // namespace

bool loop_attribute(Heap& heap, const Value& value, const std::string& name, Value& result) {
  Loop& loop = *value.loop();
  const auto number = [](std::size_t count) { return Value::integer(static_cast<Int>(count)); };
  if (name == "index0") {
    result = number(loop.at);
  } else if (name == "index") {
    result = number(loop.at + 1);
  } else if (name == "first") {
    result = Value::boolean(loop.at == 0);
  } else if (name == "last") {
    result = Value::boolean(!loop.has(loop.at + 1));
  } else if (name == "length") {
    result = number(loop.length());
  } else if (name == "revindex") {
    result = number(loop.length() - loop.at);
  } else if (name == "revindex0") {
    result = number(loop.length() - loop.at - 1);
  } else if (name == "depth" || name == "depth0") {
    result = Value::integer(loop.level - (name == "depth" ? 0 : 1));
  } else if (name == "previtem") {
    result = loop.at > 0 ? loop.items[loop.at - 1] : heap.undefined("there is no previous item, it is undefined");
  } else if (name == "nextitem") {
    result = loop.has(loop.at + 1) ? loop.items[loop.at + 1] : heap.undefined("there is no next item, it is undefined");
  } else if (name == "cycle") {
    result = method(heap, value, "cycle", cycle);
  } else if (name == "changed") {
    result = method(heap, value, "changed", changed);
  } else {
    return false;
  }
  return true;
}

}  // namespace millrace::jinja
