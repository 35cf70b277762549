// Tokenizer files carry regular expressions for Oniguruma in its Ruby syntax; we match with PCRE2. Pure function.
#pragma once

#include <string>
#include <string_view>

namespace millrace {

// The same expression for PCRE2 with its options UTF, UCP and MULTILINE. Rewritten is what both accept but understand
// differently: \s \S \w \W \b \B \h \H and \uHHHH. Errors: Errc::unsupported, opened by `what`, for what has no equal
// in PCRE2 or another meaning there: nested and intersected classes, \W and \H in a class, {n,m}+, {,m}, the option m.
std::string pcre2_pattern(std::string_view oniguruma, std::string_view what);

}  // namespace millrace
