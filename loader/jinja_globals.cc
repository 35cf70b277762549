#include "loader/jinja_globals.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "loader/jinja_call.h"
#include "loader/jinja_evaluator.h"
#include "loader/jinja_print.h"

namespace millrace::jinja {
namespace {

Value range(const Call& call) {
  const Int first = call.integer(0, 0);
  const Value result =
      call.has(1) ? call.heap.range(first, call.integer(1, 0), call.integer(2, 1)) : call.heap.range(0, first, 1);
  const auto is_data = [](const Value& value) { return value.data(); };
  return result.as_data(std::any_of(call.all.positional.begin(), call.all.positional.end(), is_data));
}

// A mapping or pairs, then names.
void fill(const Call& call, Dict& dict) {
  if (call.all.positional.size() > 1)
    throw Fault(fmt::format("{} expected at most 1 argument, got {}", call.name, call.all.positional.size()));
  if (!call.all.positional.empty()) {
    const Value& source = call.all.positional[0];
    if (source.is(Kind::dict)) {
      for (const auto& [key, value] : source.get<Dict>().entries) dict.set(key, value);
    } else {
      for (const Value& item : collect(call.heap, source)) {
        const std::vector<Value> pair = collect(call.heap, item);
        if (pair.size() != 2)
          throw Fault(fmt::format("{}: an item has {} values, 2 are required", call.name, pair.size()));
        dict.set(pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, value] : call.all.named) dict.set(call.heap.text(call.all.name_text(name)), value);
}

Value make_dict(const Call& call) {
  auto dict = std::make_shared<Dict>(call.heap);
  fill(call, *dict);
  return Value::object(Kind::dict, std::shared_ptr<const Dict>(std::move(dict)));
}

Value make_namespace(const Call& call) {
  Namespace* space = call.heap.new_space();
  fill(call, space->attributes);
  return Value::space(space);
}

Value raise_exception(const Call& call) {
  throw Fault(to_utf8(to_str(call.heap, *call.given[0])), true);
}

constexpr std::array functions = std::to_array<Native>({
    {"dict", make_dict, {}, 0, true},
    {"namespace", make_namespace, {}, 0, true},
    {"raise_exception", raise_exception, {"message"}, 1},
    {"range", range, {"start", "stop", "step"}, 1},
});

// As Python's datetime.strftime() of a time without a zone.
Value strftime_now(Heap& heap, const Arguments& arguments, const std::tm& now) {
  if (arguments.positional.size() != 1 || !arguments.positional[0].is(Kind::text))
    throw Fault("strftime_now takes one text");
  const Text& wanted = arguments.positional[0].text();
  std::string format;
  const std::string given = to_utf8(wanted);
  for (std::size_t i = 0; i < given.size(); ++i) {
    const char code = given[i] == '%' && i + 1 < given.size() ? given[i + 1] : '\0';
    if (code == 'f') format += "000000";
    if (code == 'f' || code == 'z' || code == 'Z')
      ++i;
    else
      format += given[i];
    if (code == '%') format += given[++i];
  }
  std::array<char, 4096> buffer;
  format += ' ';  // so that an empty result is no failure
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &now);
  if (size == 0) throw Fault("over the limit: a date of more than 4096 bytes");
  return heap.text(to_text({buffer.data(), size - 1}, any_mark(wanted)));
}

}  // namespace

void define_globals(Evaluator& evaluator, Heap& heap, const std::tm& now) {
  const auto define = [&](std::string_view name, auto call) {
    evaluator.define(std::string(name), Value::object(Kind::function, std::make_shared<const Function>(
                                                                          std::string(name), Value(), call, heap)));
  };
  for (const Native& function : functions) {
    define(function.name, [&function](Heap& inner, const Value& self, const Arguments& arguments) {
      return invoke(inner, function, self, arguments);
    });
  }
  define("strftime_now",
         [now](Heap& inner, const Value&, const Arguments& arguments) { return strftime_now(inner, arguments, now); });
}

}  // namespace millrace::jinja
