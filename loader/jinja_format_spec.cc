#include "loader/jinja_format_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loader/jinja_print.h"

namespace millrace::jinja {

std::size_t read_count(TextView format, std::size_t& at) {
  std::size_t count = 0;
  for (; at < format.size() && point(format[at]) >= U'0' && point(format[at]) <= U'9'; ++at) {
    count = count * 10 + (point(format[at]) - U'0');
    Heap::check_text(count);
  }
  return count;
}

Text padded(const Text& text, const FormatSpec& spec, char32_t default_align) {
  Heap::check_text(spec.width);
  if (text.size() >= spec.width) return text;
  const std::size_t missing = spec.width - text.size();
  const char32_t align = spec.align == 0 ? default_align : spec.align;
  const std::size_t left = align == U'<' ? 0 : align == U'^' ? missing / 2 : missing;
  return Text(left, spec.fill) + text + Text(missing - left, spec.fill);
}

namespace {

std::string in_base(Int magnitude, Int base, bool capitals) {
  std::string digits;
  do {
    const int digit = static_cast<int>(magnitude % base);
    digits.insert(digits.begin(), static_cast<char>(digit < 10 ? '0' + digit : (capitals ? 'A' : 'a') + digit - 10));
    magnitude /= base;
  } while (magnitude > 0);
  return digits;
}

std::string with_commas(const std::string& digits) {
  const std::size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string result;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && i < whole && (whole - i) % 3 == 0) result += ',';
    result += digits[i];
  }
  return result;
}

// Sign, prefix and digits, filled up between them where zeros or '=' ask for it.
Text number(bool negative, const std::string& prefix, std::string digits, const FormatSpec& spec, char32_t mark) {
  std::string before = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  before += prefix;
  if (spec.comma) digits = with_commas(digits);
  Heap::check_text(spec.width);
  Text result;
  append(result, before, mark);
  const std::size_t size = before.size() + digits.size();
  const bool inside = (spec.zero && spec.align == 0) || spec.align == U'=';
  if (inside && size < spec.width) result.append(spec.width - size, spec.zero ? U'0' : spec.fill);
  append(result, digits, mark);
  return padded(result, spec, U'>');
}

}  // namespace

Text format_int(Int value, const FormatSpec& spec, char32_t mark) {
  const Int magnitude = value < 0 ? -value : value;
  std::string digits, prefix;
  switch (spec.type) {
    case 'x':
    case 'X':
      digits = in_base(magnitude, 16, spec.type == 'X'), prefix = spec.type == 'X' ? "0X" : "0x";
      break;
    case 'o':
      digits = in_base(magnitude, 8, false), prefix = "0o";
      break;
    case 'b':
      digits = in_base(magnitude, 2, false), prefix = "0b";
      break;
    default:
      digits = int_text(magnitude);
  }
  if (spec.precision != nowhere && digits.size() < spec.precision) {
    Heap::check_text(spec.precision);
    digits.insert(0, spec.precision - digits.size(), '0');
  }
  return number(value < 0, spec.alternative ? prefix : "", std::move(digits), spec, mark);
}

Text format_float(double value, const FormatSpec& spec, char32_t mark) {
  constexpr std::size_t most_digits = 1000;
  if (spec.precision != nowhere && spec.precision > most_digits)
    throw Fault("over the limit: more than 1000 digits after the point");
  const int precision = spec.precision == nowhere ? 6 : static_cast<int>(spec.precision);
  const double magnitude = std::abs(spec.type == '%' ? value * 100 : value);
  std::string digits;
  if (std::isnan(value) || std::isinf(value)) {
    digits = std::isnan(value) ? "nan" : "inf";
  } else {
    switch (spec.type) {
      case 'e':
        digits = fmt::format("{:.{}e}", magnitude, precision);
        break;
      case 'E':
        digits = fmt::format("{:.{}E}", magnitude, precision);
        break;
      case 'g':
        digits = fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
        break;
      case 'G':
        digits = fmt::format("{:.{}G}", magnitude, std::max(precision, 1));
        break;
      case 0:
        digits = spec.precision == nowhere ? float_text(magnitude)
                                           : fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
        break;
      default:
        digits = fmt::format("{:.{}f}", magnitude, precision);
    }
  }
  if (spec.type == '%') digits += '%';
  return number(std::signbit(value) && !std::isnan(value), "", std::move(digits), spec, mark);
}

}  // namespace millrace::jinja
