// "{} of {name:>5}".
#include <fmt/format.h>

#include <algorithm>

#include "loader/jinja_format.h"
#include "loader/jinja_format_spec.h"
#include "loader/jinja_numbers.h"
#include "loader/jinja_print.h"

namespace millrace::jinja {
namespace {

class BraceFormat {
 public:
  BraceFormat(Heap& heap, TextView format, const Arguments& arguments)
      : heap_(heap), format_(format), arguments_(arguments) {}

  Text run() {
    Text out;
    while (at_ < format_.size()) {
      const char32_t c = format_[at_++];
      const bool doubled = at_ < format_.size() && point(format_[at_]) == point(c);
      if ((point(c) == U'{' || point(c) == U'}') && doubled) {
        out += c;
        ++at_;
      } else if (point(c) == U'{') {
        out += field();
        Heap::check_text(out.size());
      } else if (point(c) == U'}') {
        throw Fault("Single '}' encountered in format string");
      } else {
        out += c;
      }
    }
    return out;
  }

 private:
  Text field() {
    const std::size_t close = format_.find(U'}', at_);
    if (close == nowhere) throw Fault("expected '}' before end of string");
    TextView inside = format_.substr(at_, close - at_);
    if (inside.find(U'{') != nowhere) throw Fault("fields inside fields of a format are not supported");
    at_ = close + 1;
    TextView spec, conversion;
    if (const std::size_t colon = inside.find(U':'); colon != nowhere) {
      spec = inside.substr(colon + 1);
      inside = inside.substr(0, colon);
    }
    if (const std::size_t bang = inside.find(U'!'); bang != nowhere) {
      conversion = inside.substr(bang + 1);
      inside = inside.substr(0, bang);
    }
    Value value = argument(inside);
    if (!conversion.empty()) {
      const bool is_repr = point(conversion[0]) == U'r' || point(conversion[0]) == U'a';
      value = heap_.text(is_repr ? to_repr(heap_, value) : to_str(heap_, value));
    }
    return formatted(value, spec);
  }

  Value argument(TextView field) {
    const std::size_t end = std::min(field.find(U'.'), field.find(U'['));
    const std::string name = to_utf8(field.substr(0, end));
    Value value = named(name);
    TextView rest = end == nowhere ? TextView() : field.substr(end);
    while (!rest.empty()) {
      const std::size_t close = rest.find(U']');
      if (point(rest[0]) != U'[' || close == nowhere) throw Fault("attributes in a format are not supported");
      value = item(value, rest.substr(1, close - 1));
      rest = rest.substr(close + 1);
    }
    return value;
  }

  Value named(const std::string& name) {
    const bool is_number = !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
    if (name.empty() || is_number) {
      const std::size_t index = name.empty() ? used_++ : name.size() > 9 ? nowhere : std::stoul(name);
      if (index >= arguments_.positional.size())
        throw Fault("Replacement index out of range for positional args tuple");
      return arguments_.positional[index];
    }
    for (const auto& [key, value] : arguments_.named)
      if (key == name) return value;
    throw Fault("the format names '" + name + "', which is no argument");
  }

  Value item(const Value& value, TextView key) {
    const Value index = parse_int(to_utf8(key), 10);
    if (value.is(Kind::dict)) {
      const Value* found = value.get<Dict>().find(index.is(Kind::integer) ? index : heap_.text(Text(key)));
      if (found != nullptr) return *found;
    } else if ((value.is(Kind::list) || value.is(Kind::tuple)) && index.is(Kind::integer)) {
      const std::vector<Value>& items = value.get<Sequence>().items;
      if (index.integer() >= 0 && index.integer() < static_cast<Int>(items.size()))
        return items[static_cast<std::size_t>(index.integer())];
    }
    throw Fault("the format asks for item '" + to_utf8(key) + "', which is not there");
  }

  static FormatSpec parse_spec(TextView text) {
    const auto is_align = [](char32_t c) { return TextView(U"<>^=").find(c) != nowhere; };
    FormatSpec spec;
    std::size_t at = 0;
    if (text.size() > 1 && is_align(text[1])) {
      spec.fill = text[0];
      spec.align = point(text[1]);
      at = 2;
    } else if (!text.empty() && is_align(text[0])) {
      spec.align = point(text[0]);
      at = 1;
    }
    const auto skip = [&](char32_t c) { return at < text.size() && point(text[at]) == c && ++at > 0; };
    if (skip(U'+')) spec.sign = '+';
    if (skip(U' ')) spec.sign = ' ';
    static_cast<void>(skip(U'-'));
    spec.alternative = skip(U'#');
    spec.zero = skip(U'0');
    spec.width = read_count(text, at);
    spec.comma = skip(U',');
    if (skip(U'.')) spec.precision = read_count(text, at);
    if (at < text.size()) spec.type = static_cast<char>(point(text[at]) < 0x80 ? point(text[at]) : U'?'), ++at;
    if (at < text.size()) throw Fault("Invalid format specifier");
    return spec;
  }

  Text formatted(const Value& value, TextView text) {
    if (text.empty()) return to_str(heap_, value);
    const FormatSpec spec = parse_spec(text);
    const std::string_view types = value.is(Kind::text) ? "s" : value.is(Kind::real) ? "eEfFgG%" : "bdnxXoeEfFgG%";
    if (!value.is(Kind::text) && !value.is_number())
      throw Fault(fmt::format("unsupported format string passed to {}.__format__", type_name(value)));
    if (spec.type != 0 && types.find(spec.type) == std::string_view::npos)
      throw Fault(fmt::format("Unknown format code '{}' for object of type '{}'", spec.type, type_name(value)));
    if (value.is(Kind::text)) return padded(value.text().substr(0, spec.precision), spec, U'<');
    const bool as_float = value.is(Kind::real) || std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
    if (as_float && (spec.type != 0 || value.is(Kind::real))) return format_float(value.real(), spec, value.mark());
    return format_int(value.integer(), spec, value.mark());
  }

  Heap& heap_;
  TextView format_;
  const Arguments& arguments_;
  std::size_t used_ = 0, at_ = 0;
};

}  // namespace

Value brace_format(Heap& heap, const Value& format, const Arguments& arguments) {
  return heap.text(BraceFormat(heap, format.text(), arguments).run(), format.get<String>().markup);
}

}  // namespace millrace::jinja
