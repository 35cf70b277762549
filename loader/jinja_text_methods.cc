// The methods of texts.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "loader/jinja_format.h"
#include "loader/jinja_methods.h"

namespace millrace::jinja {
namespace {

Value result(const Call& call, Text text) {
  return call.heap.text(std::move(text), call.self.get<String>().markup);
}

Value list_of(const Call& call, const std::vector<TextView>& parts) {
  Heap::check_list(parts.size());
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const TextView part : parts) items.push_back(result(call, Text(part)));
  return call.heap.list(std::move(items));
}

// Text or null for None.
const Text* optional_text(const Call& call, std::size_t index) {
  return call.has(index) && !call.given[index]->is(Kind::none) ? &call.text(index) : nullptr;
}

std::size_t most_parts(const Call& call, std::size_t index) {
  const Int most = call.integer(index, -1);
  return most < 0 ? nowhere : static_cast<std::size_t>(std::min<Int>(most, Int{1} << 40));
}

std::vector<TextView> split_at_space(TextView text, std::size_t most) {
  std::vector<TextView> parts;
  for (text = strip_left(text); !text.empty(); text = strip_left(text)) {
    std::size_t end = 0;
    while (end < text.size() && !is_space(text[end])) ++end;
    if (parts.size() == most) end = text.size();
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return parts;
}

std::vector<TextView> split_at_space_from_right(TextView text, std::size_t most) {
  std::vector<TextView> parts;
  for (text = strip_right(text); !text.empty(); text = strip_right(text)) {
    std::size_t begin = text.size();
    while (begin > 0 && !is_space(text[begin - 1])) --begin;
    if (parts.size() == most) begin = 0;
    parts.push_back(text.substr(begin));
    text = text.substr(0, begin);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

const Text& separator_of(const Call& call) {
  const Text& separator = call.text(0);
  if (separator.empty()) throw Fault("empty separator");
  return separator;
}

Value split(const Call& call) {
  TextView text = call.self.text();
  call.heap.work(text.size());
  const std::size_t most = most_parts(call, 1);
  if (optional_text(call, 0) == nullptr) return list_of(call, split_at_space(text, most));
  const Text& separator = separator_of(call);
  std::vector<TextView> parts;
  for (std::size_t next; parts.size() < most && (next = find_text(text, separator)) != nowhere;) {
    parts.push_back(text.substr(0, next));
    text.remove_prefix(next + separator.size());
  }
  parts.push_back(text);
  return list_of(call, parts);
}

Value rsplit(const Call& call) {
  const TextView text = call.self.text();
  call.heap.work(text.size());
  const std::size_t most = most_parts(call, 1);
  if (optional_text(call, 0) == nullptr) return list_of(call, split_at_space_from_right(text, most));
  const Text& separator = separator_of(call);
  std::vector<TextView> parts;
  std::size_t end = text.size();
  for (std::size_t at; parts.size() < most && (at = find_last_text(text.substr(0, end), separator)) != nowhere;) {
    parts.push_back(text.substr(at + separator.size(), end - at - separator.size()));
    end = at;
  }
  parts.push_back(text.substr(0, end));
  std::reverse(parts.begin(), parts.end());
  return list_of(call, parts);
}

bool is_line_end(char32_t c) {
  const char32_t p = point(c);
  return (p >= 0x0A && p <= 0x0D) || (p >= 0x1C && p <= 0x1E) || p == 0x85 || p == 0x2028 || p == 0x2029;
}

Value splitlines(const Call& call) {
  TextView text = call.self.text();
  call.heap.work(text.size());
  const bool keep = call.truth(0, false);
  std::vector<TextView> lines;
  while (!text.empty()) {
    std::size_t end = 0;
    while (end < text.size() && !is_line_end(text[end])) ++end;
    std::size_t next = std::min(end + 1, text.size());
    if (end + 1 < text.size() && point(text[end]) == U'\r' && point(text[end + 1]) == U'\n') ++next;
    lines.push_back(text.substr(0, keep ? next : end));
    text.remove_prefix(next);
  }
  return list_of(call, lines);
}

Value three_parts(const Call& call, TextView before, TextView middle, TextView after) {
  return call.heap.tuple({result(call, Text(before)), result(call, Text(middle)), result(call, Text(after))});
}

Value partition(const Call& call) {
  const TextView text = call.self.text();
  const Text& separator = separator_of(call);
  call.heap.work(text.size());
  const std::size_t at = find_text(text, separator);
  if (at == nowhere) return three_parts(call, text, {}, {});
  return three_parts(call, text.substr(0, at), separator, text.substr(at + separator.size()));
}

Value rpartition(const Call& call) {
  const TextView text = call.self.text();
  const Text& separator = separator_of(call);
  call.heap.work(text.size());
  const std::size_t at = find_last_text(text, separator);
  if (at == nowhere) return three_parts(call, {}, {}, text);
  return three_parts(call, text.substr(0, at), separator, text.substr(at + separator.size()));
}

std::size_t characters_in(const Value& value) {
  return value.is(Kind::text) ? value.text().size() : 0;
}

template <bool left, bool right>
Value strip(const Call& call) {
  call.heap.work(call.self.text().size() + (call.has(0) ? 32 * characters_in(*call.given[0]) : 0));
  return result(call, Text(stripped(call.self.text(), optional_text(call, 0), left, right)));
}

// The part that start and end name; `begin` is where it begins. False if start lies behind the end of the text.
bool window(const Call& call, std::size_t first, TextView& text, std::size_t& begin) {
  const auto size = static_cast<Int>(text.size());
  const auto bounded = [&](std::size_t index, Int otherwise) {
    const bool missing = !call.has(index) || call.given[index]->is(Kind::none);
    Int value = missing ? otherwise : call.integer(index, 0);
    if (value < 0) value = std::max<Int>(value + size, 0);
    return value;
  };
  const Int start = bounded(first, 0), stop = std::min(bounded(first + 1, size), size);
  if (start > size || start > stop) return false;
  begin = static_cast<std::size_t>(start);
  text = text.substr(begin, static_cast<std::size_t>(stop - start));
  return true;
}

template <bool from_right, bool must_be_there>
Value position(const Call& call) {
  TextView text = call.self.text();
  std::size_t begin = 0;
  const Text& wanted = call.text(0);
  call.heap.work(2 * text.size());
  std::size_t at = nowhere;
  if (window(call, 1, text, begin)) at = from_right ? find_last_text(text, wanted) : find_text(text, wanted);
  if (at != nowhere) return Value::integer(static_cast<Int>(begin + at));
  if (must_be_there) throw Fault("substring not found");
  return Value::integer(-1);
}

Value count_text(const Call& call) {
  TextView text = call.self.text();
  std::size_t begin = 0;
  const Text& wanted = call.text(0);
  call.heap.work(2 * text.size());
  if (!window(call, 1, text, begin)) return Value::integer(0);
  if (wanted.empty()) return Value::integer(static_cast<Int>(text.size()) + 1);
  Int count = 0;
  for (std::size_t at = find_text(text, wanted); at != nowhere; at = find_text(text, wanted, at + wanted.size()))
    ++count;
  return Value::integer(count);
}

template <bool at_end>
Value has_affix(const Call& call) {
  TextView text = call.self.text();
  std::size_t begin = 0;
  if (!window(call, 1, text, begin)) return Value::boolean(false);
  const auto matches = [&](const Value& affix) {
    if (!affix.is(Kind::text))
      throw Fault(fmt::format("{} first arg must be str or a tuple of str, not {}", call.name, type_name(affix)));
    call.heap.work(affix.text().size());
    return at_end ? text.ends_with(affix.text()) : text.starts_with(affix.text());
  };
  if (!call.given[0]->is(Kind::tuple)) return Value::boolean(matches(*call.given[0]));
  const std::vector<Value>& affixes = call.given[0]->get<Sequence>().items;
  return Value::boolean(std::any_of(affixes.begin(), affixes.end(), matches));
}

template <bool suffix>
Value remove_affix(const Call& call) {
  TextView text = call.self.text();
  const Text& affix = call.text(0);
  call.heap.work(text.size());
  if (suffix && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!suffix && text.starts_with(affix)) text.remove_prefix(affix.size());
  return result(call, Text(text));
}

template <Text (*change)(TextView)>
Value changed(const Call& call) {
  call.heap.work(8 * call.self.text().size());
  return result(call, change(call.self.text()));
}

template <bool (*test)(char32_t)>
Value all_are(const Call& call) {
  call.heap.work(4 * call.self.text().size());
  const Text& text = call.self.text();
  return Value::boolean(!text.empty() && std::all_of(text.begin(), text.end(), test));
}

bool is_alphanumeric(char32_t c) {
  return is_alpha(c) || is_digit(c);
}

template <bool (*wanted)(char32_t), bool (*other)(char32_t)>
Value cased(const Call& call) {
  call.heap.work(4 * call.self.text().size());
  const Text& text = call.self.text();
  const bool none = std::none_of(text.begin(), text.end(), [](char32_t c) { return other(c) || is_title(c); });
  return Value::boolean(none && std::any_of(text.begin(), text.end(), wanted));
}

bool is_ascii(char32_t c) {
  return point(c) < 0x80;
}

Value isascii(const Call& call) {
  return Value::boolean(call.self.text().empty() || all_are<is_ascii>(call).boolean());
}

Value isidentifier(const Call& call) {
  const Text& text = call.self.text();
  return Value::boolean(!text.empty() && is_identifier_start(text[0]) &&
                        std::all_of(text.begin(), text.end(), is_word));
}

Value replace(const Call& call) {
  return result(call, replaced(call.heap, call.self.text(), call.text(0), call.text(1), call.integer(2, -1)));
}

Value join(const Call& call) {
  return joined(call.heap, call.self.text(), collect(call.heap, *call.given[0]), call.self.get<String>().markup);
}

char32_t fill_of(const Call& call) {
  if (!call.has(1)) return U' ';
  if (call.text(1).size() != 1) throw Fault("The fill character must be exactly one character long");
  return call.text(1)[0];
}

std::size_t missing_width(const Call& call) {
  const Int width = call.integer(0, 0), size = static_cast<Int>(call.self.text().size());
  if (width <= size) return 0;
  Heap::check_text(static_cast<std::size_t>(std::min<Int>(width, Int{1} << 40)));
  return static_cast<std::size_t>(width - size);
}

Value ljust(const Call& call) {
  return result(call, call.self.text() + Text(missing_width(call), fill_of(call)));
}
Value rjust(const Call& call) {
  return result(call, Text(missing_width(call), fill_of(call)) + call.self.text());
}
Value center(const Call& call) {
  return result(call, centered(call.self.text(), call.integer(0, 0), fill_of(call)));
}

Value zfill(const Call& call) {
  const Text& text = call.self.text();
  const bool has_sign = !text.empty() && (point(text[0]) == U'-' || point(text[0]) == U'+');
  const std::size_t sign = has_sign ? 1 : 0;
  Text filled = text.substr(0, sign);
  filled.append(missing_width(call), U'0');
  filled.append(text, sign);
  return result(call, std::move(filled));
}

Value format(const Call& call) {
  return brace_format(call.heap, call.self, call.all);
}

constexpr std::array text_methods = std::to_array<Native>({
    {"capitalize", changed<capitalize>},
    {"center", center, {"width", "fillchar"}, 1},
    {"count", count_text, {"sub", "start", "end"}, 1},
    {"endswith", has_affix<true>, {"suffix", "start", "end"}, 1},
    {"find", position<false, false>, {"sub", "start", "end"}, 1},
    {"format", format, {}, 0, true},
    {"index", position<false, true>, {"sub", "start", "end"}, 1},
    {"isalnum", all_are<is_alphanumeric>},
    {"isalpha", all_are<is_alpha>},
    {"isascii", isascii},
    {"isdecimal", all_are<is_decimal>},
    {"isdigit", all_are<is_digit>},
    {"isidentifier", isidentifier},
    {"islower", cased<is_lower, is_upper>},
    {"isnumeric", all_are<is_digit>},
    {"isspace", all_are<is_space>},
    {"isupper", cased<is_upper, is_lower>},
    {"join", join, {"iterable"}, 1},
    {"ljust", ljust, {"width", "fillchar"}, 1},
    {"lower", changed<lower>},
    {"lstrip", strip<true, false>, {"chars"}},
    {"partition", partition, {"sep"}, 1},
    {"removeprefix", remove_affix<false>, {"prefix"}, 1},
    {"removesuffix", remove_affix<true>, {"suffix"}, 1},
    {"replace", replace, {"old", "new", "count"}, 2},
    {"rfind", position<true, false>, {"sub", "start", "end"}, 1},
    {"rindex", position<true, true>, {"sub", "start", "end"}, 1},
    {"rjust", rjust, {"width", "fillchar"}, 1},
    {"rpartition", rpartition, {"sep"}, 1},
    {"rsplit", rsplit, {"sep", "maxsplit"}},
    {"rstrip", strip<false, true>, {"chars"}},
    {"split", split, {"sep", "maxsplit"}},
    {"splitlines", splitlines, {"keepends"}},
    {"startswith", has_affix<false>, {"prefix", "start", "end"}, 1},
    {"strip", strip<true, true>, {"chars"}},
    {"swapcase", changed<swap_case>},
    {"title", changed<title>},
    {"upper", changed<upper>},
    {"zfill", zfill, {"width"}, 1},
});

}  // namespace

const Native* find_text_method(std::string_view name) {
  return find_native(text_methods, name);
}

}  // namespace millrace::jinja
