// "%s of %d".
#include <fmt/format.h>

#include "loader/jinja_format.h"
#include "loader/jinja_format_spec.h"
#include "loader/jinja_numbers.h"
#include "loader/jinja_print.h"

namespace millrace::jinja {
namespace {

class PercentFormat {
 public:
  PercentFormat(Heap& heap, TextView format, const Value& values) : heap_(heap), format_(format), values_(values) {
    is_tuple_ = values.is(Kind::tuple);
    count_ = is_tuple_ ? length(values) : 1;
  }

  Text run() {
    Text out;
    while (at_ < format_.size()) {
      const char32_t c = format_[at_++];
      if (point(c) != U'%') {
        out += c;
      } else {
        out += field();
        Heap::check_text(out.size());
      }
    }
    // Python takes all of these for mappings, of which not every item need be used.
    const bool is_mapping =
        values_.is(Kind::dict) || values_.is(Kind::list) || values_.is(Kind::range) || values_.is(Kind::undefined);
    if (used_ < count_ && !is_mapping) throw Fault("not all arguments converted during string formatting");
    return out;
  }

 private:
  char32_t peek() const {
    if (at_ >= format_.size()) throw Fault("incomplete format");
    return point(format_[at_]);
  }

  Value next() {
    if (used_ >= count_) throw Fault("not enough arguments for format string");
    const Value value = is_tuple_ ? values_.get<Sequence>().items[used_] : values_;
    ++used_;
    return value;
  }

  Value named() {
    const std::size_t close = TextView(format_).find(U')', at_);
    if (close == nowhere) throw Fault("incomplete format key");
    if (!values_.is(Kind::dict)) throw Fault("format requires a mapping");
    const Text key(format_.substr(at_ + 1, close - at_ - 1));
    at_ = close + 1;
    const Value* found = values_.get<Dict>().find(heap_.text(key));
    if (found == nullptr) throw Fault("the format's key '" + to_utf8(key) + "' is not in the mapping");
    return *found;
  }

  // '*' takes a width or precision from the values.
  std::size_t count() {
    if (peek() != U'*') return read_count(format_, at_);
    ++at_;
    const Value value = next();
    if (!value.is_integral()) throw Fault("* wants int");
    if (value.integer() < 0 || value.integer() > static_cast<Int>(longest_text))
      throw Fault("over the limit: a width or precision of more than 16777216");
    return static_cast<std::size_t>(value.integer());
  }

  Text field() {
    FormatSpec spec;
    bool has_value = false;
    Value value;
    if (peek() == U'(') value = named(), has_value = true;
    for (bool more = true; more;) {
      switch (peek()) {
        case U'-':
          spec.align = U'<';
          break;
        case U'+':
          spec.sign = '+';
          break;
        case U' ':
          spec.sign = spec.sign == '+' ? '+' : ' ';
          break;
        case U'0':
          spec.zero = true;
          break;
        case U'#':
          spec.alternative = true;
          break;
        default:
          more = false;
          continue;
      }
      ++at_;
    }
    spec.width = count();
    if (peek() == U'.') ++at_, spec.precision = count();
    while (peek() == U'h' || peek() == U'l' || peek() == U'L') ++at_;
    const char32_t type = peek();
    ++at_;
    if (type == U'%') return Text(1, format_[at_ - 1]);
    if (!has_value) value = next();
    return converted(value, type, spec);
  }

  Text converted(const Value& value, char32_t type, FormatSpec spec) {
    spec.type = static_cast<char>(type < 0x80 ? type : U'?');
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a': {
        const Text text = spec.type == 's' ? to_str(heap_, value) : to_repr(heap_, value);
        return padded(text.substr(0, spec.precision), spec, U'>');
      }
      case 'd':
      case 'i':
      case 'u':
        if (!value.is_number())
          throw Fault(fmt::format("%{} format: a real number is required, not {}", spec.type, type_name(value)));
        return format_int(value.is(Kind::real) ? truncated(value.real()) : value.integer(), spec, value.mark());
      case 'x':
      case 'X':
      case 'o':
        if (!value.is_integral())
          throw Fault(fmt::format("%{} format: an integer is required, not {}", spec.type, type_name(value)));
        return format_int(value.integer(), spec, value.mark());
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (!value.is_number()) throw Fault(fmt::format("must be real number, not {}", type_name(value)));
        return format_float(value.real(), spec, value.mark());
      case 'c':
        return padded(character(value), spec, U'>');
      default:
        throw Fault("unsupported format character '" + to_utf8(Text(1, type)) + "'");
    }
  }

  // A character made from a number is nothing the template author wrote, so it counts as data.
  static Text character(const Value& value) {
    if (value.is(Kind::text) && value.text().size() == 1) return value.text();
    if (!value.is_integral()) throw Fault("%c requires int or char");
    const Int code = value.integer();
    if (code < 0 || code > 0x10FFFF) throw Fault("%c arg not in range(0x110000)");
    const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
    return Text(1, (is_surrogate ? U'\uFFFD' : static_cast<char32_t>(code)) | data_mark);
  }

  Heap& heap_;
  TextView format_;
  const Value& values_;
  bool is_tuple_ = false;
  std::size_t count_ = 0, used_ = 0, at_ = 0;
};

}  // namespace

Value percent_format(Heap& heap, const Value& format, const Value& values) {
  return heap.text(PercentFormat(heap, format.text(), values).run(), format.get<String>().markup);
}

}  // namespace millrace::jinja
