// TemplateError: a template that cannot be read or rendered, with the place in it.
#pragma once

#include <fmt/format.h>

#include <string>

#include "runtime/error.h"

namespace millrace {

// what() is "NAME: line N: DETAIL"; the code is bad_argument if the template itself refused the request by
// raise_exception(), bad_file otherwise.
class TemplateError : public Error {
 public:
  TemplateError(const std::string& name, int line, const std::string& detail, bool raised = false)
      : Error(raised ? Errc::bad_argument : Errc::bad_file, fmt::format("{}: line {}: {}", name, line, detail)),
        line_(line),
        detail_(detail),
        raised_(raised) {}

  int line() const noexcept { return line_; }
  const std::string& detail() const noexcept { return detail_; }
  bool raised() const noexcept { return raised_; }

 private:
  int line_;
  std::string detail_;
  bool raised_;
};

}  // namespace millrace
