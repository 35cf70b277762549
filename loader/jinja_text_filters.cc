// Filters of texts.
#include <fmt/format.h>

#include <algorithm>

#include "loader/jinja_filters.h"
#include "loader/jinja_format.h"
#include "loader/jinja_html.h"
#include "loader/jinja_methods.h"
#include "loader/jinja_print.h"

namespace millrace::jinja {
namespace {

bool is_markup(const Value& value) {
  return value.is(Kind::text) && value.get<String>().markup;
}

// What Jinja's filters do first: text of anything, markup stays markup.
Text soft(const Call& call) {
  return to_str(call.heap, call.self);
}
Value made(const Call& call, Text text) {
  return call.heap.text(std::move(text), is_markup(call.self));
}

template <Text (*change)(TextView)>
Value changed(const Call& call) {
  const Text text = soft(call);
  call.heap.work(8 * text.size());
  return made(call, change(text));
}

// Words begin after white space, dashes and opening brackets.
Text word_title(TextView text) {
  Text result;
  bool at_begin = true;
  while (!text.empty()) {
    const auto is_border = [](char32_t c) { return is_space(c) || TextView(U"-({[<").find(c) != nowhere; };
    std::size_t end = 0;
    const bool border = is_border(text[0]);
    while (end < text.size() && is_border(text[end]) == border) ++end;
    const TextView part = text.substr(0, end);
    at_begin = !border;
    result += at_begin ? upper(part.substr(0, 1)) + lower(part.substr(1)) : Text(part);
    text.remove_prefix(end);
  }
  return result;
}

Value trim(const Call& call) {
  const Text text = soft(call);
  call.heap.work(text.size());
  const bool has = call.has(0) && !call.given[0]->is(Kind::none);
  if (has) call.heap.work(32 * call.text(0).size());
  return made(call, Text(stripped(text, has ? &call.text(0) : nullptr, true, true)));
}

Value replace(const Call& call) {
  const bool all = !call.has(2) || call.given[2]->is(Kind::none);
  return call.heap.text(replaced(call.heap, soft(call), to_str(call.heap, *call.given[0]),
                                 to_str(call.heap, *call.given[1]), all ? -1 : call.integer(2, -1)));
}

Value center(const Call& call) {
  return made(call, centered(soft(call), call.integer(0, 80), U' '));
}

std::vector<TextView> lines_of(TextView text) {
  std::vector<TextView> lines;
  const auto is_end = [](char32_t c) {
    const char32_t p = point(c);
    return (p >= 0x0A && p <= 0x0D) || (p >= 0x1C && p <= 0x1E) || p == 0x85 || p == 0x2028 || p == 0x2029;
  };
  while (!text.empty()) {
    std::size_t end = 0;
    while (end < text.size() && !is_end(text[end])) ++end;
    lines.push_back(text.substr(0, end));
    const bool pair = end + 1 < text.size() && point(text[end]) == U'\r' && point(text[end + 1]) == U'\n';
    text.remove_prefix(std::min(end + (pair ? 2 : 1), text.size()));
  }
  return lines;
}

Value indent(const Call& call) {
  Text margin;
  if (call.has(0) && call.given[0]->is(Kind::text)) {
    margin = call.text(0);
  } else {
    const Int width = std::max<Int>(call.integer(0, 4), 0);
    Heap::check_text(static_cast<std::size_t>(std::min<Int>(width, Int{1} << 40)));
    margin.assign(static_cast<std::size_t>(width), U' ');
  }
  const bool blank = call.truth(2, false);
  if (call.self.is(Kind::undefined)) fail_undefined(call.self);
  if (!call.self.is(Kind::text)) throw Fault(fmt::format("indent needs a str, found {}", type_name(call.self)));
  const Text text = call.self.text() + Text(1, U'\n');
  call.heap.work(text.size());
  Text result = call.truth(1, false) ? margin : Text();
  bool first = true;
  for (const TextView line : lines_of(text)) {
    Heap::check_text(result.size() + margin.size() + line.size());
    call.heap.work(margin.size());
    if (!first) result += U'\n';
    if (!first && (blank || !line.empty())) result += margin;
    first = false;
    result += line;
  }
  return made(call, std::move(result));
}

Value truncate(const Call& call) {
  const Text end = call.has(2) ? call.text(2) : to_text("...");
  const Int length = call.integer(0, 255), size = static_cast<Int>(jinja::length(call.self));
  const Int leeway = call.has(3) && !call.given[3]->is(Kind::none) ? call.integer(3, 5) : 5;
  if (length < static_cast<Int>(end.size()))
    throw Fault(fmt::format("expected length >= {}, got {}", end.size(), int_text(length)));
  if (leeway < 0) throw Fault("expected leeway >= 0, got " + int_text(leeway));
  if (size <= length || size - length <= leeway) return call.self;
  if (!call.self.is(Kind::text)) throw Fault(fmt::format("truncate needs a str, found {}", type_name(call.self)));
  Text kept = call.self.text().substr(0, static_cast<std::size_t>(length) - end.size());
  if (!call.truth(1, false)) kept = kept.substr(0, std::min(kept.rfind(U' '), kept.size()));
  return made(call, kept + end);
}

Value wordcount(const Call& call) {
  const Text text = soft(call);
  call.heap.work(4 * text.size());
  Int count = 0;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (is_word(text[i]) && (i == 0 || !is_word(text[i - 1]))) ++count;
  return Value::integer(count);
}

Text percent_encoded(Heap& heap, const Value& value, bool in_query) {
  constexpr std::string_view hex = "0123456789ABCDEF", unreserved = "_.-~";
  const Text text = to_str(heap, value);
  heap.work(4 * text.size());
  Text result;
  for (const char32_t c : text) {
    for (const char byte : to_utf8(TextView(&c, 1))) {
      const bool plain = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                         unreserved.find(byte) != std::string_view::npos || (byte == '/' && !in_query);
      const auto code = static_cast<unsigned char>(byte);
      if (plain)
        append(result, {&byte, 1}, mark_of(c));
      else if (byte == ' ' && in_query)
        append(result, "+", mark_of(c));
      else
        append(result, std::string{'%', hex[code >> 4], hex[code & 15]}, mark_of(c));
    }
  }
  return result;
}

Value urlencode(const Call& call) {
  if (call.self.is(Kind::text) || !is_iterable(call.self))
    return call.heap.text(percent_encoded(call.heap, call.self, false));
  Text result;
  const auto add = [&](const Value& key, const Value& value) {
    if (!result.empty()) append(result, "&");
    result += percent_encoded(call.heap, key, true);
    append(result, "=");
    result += percent_encoded(call.heap, value, true);
    Heap::check_text(result.size());
  };
  if (call.self.is(Kind::dict)) {
    for (const auto& [key, value] : call.self.get<Dict>().entries) add(key, value);
  } else {
    for (const Value& item : collect(call.heap, call.self)) {
      const std::vector<Value> pair = collect(call.heap, item);
      if (pair.size() != 2) throw Fault(fmt::format("urlencode needs pairs to unpack, found {} values", pair.size()));
      add(pair[0], pair[1]);
    }
  }
  return call.heap.text(std::move(result));
}

Value escape(const Call& call) {
  return call.heap.text(escaped(call.heap, call.self), true);
}
Value force_escape(const Call& call) {
  const Text text = soft(call);
  call.heap.work(text.size());
  return call.heap.text(escaped_text(text), true);
}
Value safe(const Call& call) {
  return call.heap.text(soft(call), true);
}
Value string(const Call& call) {
  return made(call, soft(call));
}

Value format(const Call& call) {
  if (!call.all.positional.empty() && !call.all.named.empty())
    throw Fault("can't handle positional and keyword arguments at the same time");
  const Value text = made(call, soft(call));
  if (call.all.named.empty()) return percent_format(call.heap, text, call.heap.tuple(call.all.positional));
  auto values = std::make_shared<Dict>(call.heap);
  for (const auto& [name, value] : call.all.named) values->set(call.heap.text(name), value);
  return percent_format(call.heap, text, Value::object(Kind::dict, std::shared_ptr<const Dict>(values)));
}

constexpr std::array filters = std::to_array<Native>({
    {"capitalize", changed<capitalize>},
    {"center", center, {"width"}},
    {"e", escape},
    {"escape", escape},
    {"forceescape", force_escape},
    {"format", format, {}, 0, true},
    {"indent", indent, {"width", "first", "blank"}},
    {"lower", changed<lower>},
    {"replace", replace, {"old", "new", "count"}, 2},
    {"safe", safe},
    {"string", string},
    {"title", changed<word_title>},
    {"trim", trim, {"chars"}},
    {"truncate", truncate, {"length", "killwords", "end", "leeway"}},
    {"upper", changed<upper>},
    {"urlencode", urlencode},
    {"wordcount", wordcount},
});

}  // namespace

std::span<const Native> text_filters() {
  return filters;
}

}  // namespace millrace::jinja
