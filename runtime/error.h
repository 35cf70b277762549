// The only way to fail: a typed exception whose message names what was expected and what was found.
// Library code throws it on the control path (open, parse, build, submit); nothing in the library prints or exits.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace millrace {

enum class Errc {
  bad_argument,   // a caller's value is out of range or contradicts another
  bad_file,       // a file's contents are not what its format demands
  bad_config,     // a configuration asks for something impossible or unknown
  not_found,      // a file, a tensor or a token is not there
  io,             // the operating system refused or failed
  out_of_memory,  // the memory budget or the machine is exhausted
  unsupported,    // valid, but this build or machine cannot do it
  cancelled,      // the caller asked to stop
};

class Error : public std::runtime_error {
 public:
  Error(Errc code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Errc code() const noexcept { return code_; }

 private:
  Errc code_;
};

template <class... Args>
[[noreturn]] void fail(Errc code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// For everything a file, a caller or the machine can cause; `assert` is for our own bugs.
template <class... Args>
void require(bool condition, Errc code, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]]
    throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace millrace
