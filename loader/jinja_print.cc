#include "loader/jinja_print.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace millrace::jinja {

std::string int_text(Int value) {
  return fmt::format("{}", value);
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == 0) return std::signbit(value) ? "-0.0" : "0.0";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view shortest(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = shortest.find('e');
  const int exponent = std::stoi(std::string(shortest.substr(e + 1)));
  if (exponent < -4 || exponent >= 16) {
    return fmt::format("{}e{}{:02}", shortest.substr(0, e), exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  std::string digits(shortest.substr(0, e));
  const bool negative = digits[0] == '-';
  std::erase_if(digits, [](char c) { return c == '-' || c == '.'; });
  if (exponent < 0) {
    digits = "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  } else {
    const auto whole = static_cast<std::size_t>(exponent) + 1;
    if (digits.size() < whole) digits.append(whole - digits.size(), '0');
    digits.insert(whole, digits.size() == whole ? ".0" : ".");
  }
  return negative ? "-" + digits : digits;
}

namespace {

constexpr std::string_view hex_digits = "0123456789abcdef";

void append_hex(Text& text, char32_t p, int digits, char32_t mark) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
    text += static_cast<char32_t>(hex_digits[p >> shift & 15]) | mark;
}

void append_text_repr(Text& out, TextView text) {
  const bool single = text.find(U'\'') != nowhere, twice = text.find(U'"') != nowhere;
  const char32_t quote = (single && !twice ? U'"' : U'\'') | any_mark(text);
  out += quote;
  for (const char32_t c : text) {
    const char32_t p = point(c), mark = mark_of(c);
    if (p == point(quote) || p == U'\\') {
      out += U'\\' | mark;
      out += c;
    } else if (p == U'\n' || p == U'\r' || p == U'\t') {
      append(out, p == U'\n' ? "\\n" : p == U'\r' ? "\\r" : "\\t", mark);
    } else if (p < 0x7F ? p >= 0x20 : is_printable(p)) {
      out += c;
    } else {
      append(out, p < 0x100 ? "\\x" : p < 0x10000 ? "\\u" : "\\U", mark);
      append_hex(out, p, p < 0x100 ? 2 : p < 0x10000 ? 4 : 8, mark);
    }
  }
  out += quote;
}

class Printer {
 public:
  explicit Printer(Heap& heap) : heap_(heap) {}

  Text take() { return std::move(out_); }

  void repr(const Value& value, bool data) {
    heap_.step();
    Heap::check_text(out_.size());
    const char32_t mark = value.mark() | (data ? data_mark : 0);
    data = mark != 0;
    switch (value.kind()) {
      case Kind::undefined:
        return append(out_, "Undefined", mark);
      case Kind::none:
        return append(out_, "None", mark);
      case Kind::boolean:
        return append(out_, value.boolean() ? "True" : "False", mark);
      case Kind::integer:
        return append(out_, int_text(value.integer()), mark);
      case Kind::real:
        return append(out_, float_text(value.real()), mark);
      case Kind::text:
        return text_repr(value);
      case Kind::list:
        return items("[", value, "]", data);
      case Kind::tuple:
        return items("(", value, value.get<Sequence>().items.size() == 1 ? ",)" : ")", data);
      case Kind::keys:
        return items("dict_keys([", value, "])", data);
      case Kind::values:
        return items("dict_values([", value, "])", data);
      case Kind::items:
        return items("dict_items([", value, "])", data);
      case Kind::dict:
        return entries(value.get<Dict>(), data);
      case Kind::range:
        return range(value.get<Range>(), mark);
      case Kind::space:
        return space(value.space());
      default:
        return append(out_, fmt::format("<{} object>", type_name(value)), mark);
    }
  }

 private:
  void text_repr(const Value& value) {
    heap_.work(value.text().size());
    Heap::check_text(out_.size() + value.text().size());
    if (value.get<String>().markup) append(out_, "Markup(");
    append_text_repr(out_, value.text());
    if (value.get<String>().markup) append(out_, ")");
  }

  void items(std::string_view open, const Value& sequence, std::string_view close, bool data) {
    const char32_t mark = data ? data_mark : 0;
    append(out_, open, mark);
    bool first = true;
    for (const Value& item : sequence.get<Sequence>().items) {
      if (!first) append(out_, ", ", mark);
      first = false;
      repr(item, data);
    }
    append(out_, close, mark);
  }

  void entries(const Dict& dict, bool data) {
    const char32_t mark = data ? data_mark : 0;
    append(out_, "{", mark);
    bool first = true;
    for (const auto& [key, value] : dict.entries) {
      if (!first) append(out_, ", ", mark);
      first = false;
      repr(key, data);
      append(out_, ": ", mark);
      repr(value, data);
    }
    append(out_, "}", mark);
  }

  void range(const Range& range, char32_t mark) {
    append(out_, "range(" + int_text(range.start) + ", " + int_text(range.stop), mark);
    if (range.step != 1) append(out_, ", " + int_text(range.step), mark);
    append(out_, ")", mark);
  }

  // A namespace may hold itself.
  void space(const Namespace& space) {
    constexpr int most = 8;
    if (++open_spaces_ > most) throw Fault("nesting of namespaces too deep to print");
    append(out_, "<Namespace ");
    entries(space.attributes, false);
    append(out_, ">");
    --open_spaces_;
  }

  Heap& heap_;
  Text out_;
  int open_spaces_ = 0;
};

class JsonPrinter {
 public:
  JsonPrinter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style) {
    item_separator_ = style.item_separator.value_or(to_text(style.indent ? "," : ", "));
    key_separator_ = style.key_separator.value_or(to_text(": "));
  }

  Text take() { return std::move(out_); }

  void put(const Value& value, bool data) {
    heap_.step();
    Heap::check_text(out_.size());
    data = data || value.data();
    const char32_t mark = data ? data_mark : 0;
    switch (value.kind()) {
      case Kind::none:
        return append(out_, "null", mark);
      case Kind::boolean:
        return append(out_, value.boolean() ? "true" : "false", mark);
      case Kind::integer:
        return append(out_, int_text(value.integer()), mark);
      case Kind::real:
        return append(out_, number(value.real()), mark);
      case Kind::text:
        return text(value.text());
      case Kind::list:
      case Kind::tuple:
        return array(value.get<Sequence>().items, data);
      case Kind::dict:
        return object(value.get<Dict>(), data);
      default:
        throw Fault(fmt::format("Object of type {} is not JSON serializable", type_name(value)));
    }
  }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return float_text(value);
  }

  void escape(char32_t p, char32_t mark) {
    append(out_, "\\u", mark);
    append_hex(out_, p, 4, mark);
  }

  void character(char32_t c) {
    constexpr std::string_view named = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
    const char32_t p = point(c), mark = mark_of(c);
    const std::size_t name = p < 0x80 ? named.find(static_cast<char>(p)) : std::string_view::npos;
    if (name != std::string_view::npos) {
      out_ += U'\\' | mark;
      out_ += static_cast<char32_t>(letters[name]) | mark;
    } else if (p < 0x20 || (style_.ensure_ascii && p > 0x7E && p < 0x10000)) {
      escape(p, mark);
    } else if (style_.ensure_ascii && p >= 0x10000) {
      escape(0xD800 + ((p - 0x10000) >> 10), mark);
      escape(0xDC00 + ((p - 0x10000) & 0x3FF), mark);
    } else {
      out_ += c;
    }
  }

  void text(TextView text) {
    heap_.work(text.size());
    Heap::check_text(out_.size() + text.size());
    const char32_t quote = U'"' | any_mark(text);
    out_ += quote;
    for (const char32_t c : text) character(c);
    out_ += quote;
  }

  void new_line(int level, char32_t mark) {
    if (!style_.indent) return;
    Heap::check_text(out_.size() + style_.indent->size() * static_cast<std::size_t>(level));
    heap_.work(style_.indent->size() * static_cast<std::size_t>(level));
    out_ += U'\n' | mark;
    for (int i = 0; i < level; ++i) out_ += *style_.indent;
  }

  void array(const std::vector<Value>& items, bool data) {
    const char32_t mark = data ? data_mark : 0;
    append(out_, "[", mark);
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) separator(item_separator_, mark);
      new_line(level_, mark);
      put(items[i], data);
    }
    --level_;
    if (!items.empty()) new_line(level_, mark);
    append(out_, "]", mark);
  }

  void object(const Dict& dict, bool data) {
    const char32_t mark = data ? data_mark : 0;
    std::vector<const std::pair<Value, Value>*> order;
    for (const auto& entry : dict.entries) order.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(order.begin(), order.end(),
                       [this](const auto* a, const auto* b) { return less(heap_, a->first, b->first); });
    append(out_, "{", mark);
    ++level_;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i > 0) separator(item_separator_, mark);
      new_line(level_, mark);
      key(order[i]->first, data);
      separator(key_separator_, mark);
      put(order[i]->second, data);
    }
    --level_;
    if (!order.empty()) new_line(level_, mark);
    append(out_, "}", mark);
  }

  void key(const Value& key, bool data) {
    if (key.is(Kind::text)) return text(key.text());
    if (!key.is_number() && !key.is(Kind::none))
      throw Fault(fmt::format("keys must be str, int, float, bool or None, not {}", type_name(key)));
    const char32_t mark = data || key.data() ? data_mark : 0;
    append(out_, "\"", mark);
    put(key, data);
    append(out_, "\"", mark);
  }

  void separator(const Text& text, char32_t mark) {
    for (const char32_t c : text) out_ += c | mark;
  }

  Heap& heap_;
  const JsonStyle& style_;
  Text item_separator_, key_separator_;
  Text out_;
  int level_ = 0;
};

}  // namespace

Text to_str(Heap& heap, const Value& value) {
  if (value.is(Kind::text)) return value.text();
  if (value.is(Kind::undefined)) return {};
  return to_repr(heap, value);
}

Text to_repr(Heap& heap, const Value& value) {
  Printer printer(heap);
  printer.repr(value, false);
  return printer.take();
}

Text to_json(Heap& heap, const Value& value, const JsonStyle& style) {
  JsonPrinter printer(heap, style);
  printer.put(value, false);
  return printer.take();
}

}  // namespace millrace::jinja
