// One field of a format: what a specification says and how numbers look under it. Internal to jinja_percent_format.cc
// and jinja_brace_format.cc. A Fault for widths and precisions beyond the limits.
#pragma once

#include "loader/jinja_value.h"

namespace millrace::jinja {

struct FormatSpec {
  char32_t fill = U' ';
  char32_t align = 0;  // < > ^ =, or 0
  char sign = '-';     // '+', ' ' or '-'
  bool alternative = false, zero = false, comma = false;
  std::size_t width = 0;
  std::size_t precision = nowhere;
  char type = 0;
};

// The number at `at`, 0 if there is none, and moves on.
std::size_t read_count(TextView format, std::size_t& at);

Text padded(const Text& text, const FormatSpec& spec, char32_t default_align);
Text format_int(Int value, const FormatSpec& spec, char32_t mark);
Text format_float(double value, const FormatSpec& spec, char32_t mark);

}  // namespace millrace::jinja
