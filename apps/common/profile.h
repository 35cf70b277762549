// What a Trace has seen, for people: a file that chrome://tracing and Perfetto show, and a table.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/trace.h"

namespace millrace {

// Writes the kept events in the Chrome trace format: one event per step, named as in dumps, and one per pass around
// its steps, "pass of N rows". The file appears whole or not at all. Throws Error(io).
void write_chrome_trace(const Trace& trace, const std::filesystem::path& path);

// Where the time goes, one line per kind of operator, the slowest first, and their sum.
std::string kinds_table(const Trace& trace);

// --profile: a trace of everything an observer of it sees, if a file is wanted.
class Profile {
 public:
  // Nothing is observed without a path. Throws Error for one where no file can be made.
  explicit Profile(std::filesystem::path path);

  Observer* observer() noexcept { return path_.empty() ? nullptr : &trace_; }
  // Writes the file, and the table to standard error.
  void finish() const;

 private:
  std::filesystem::path path_;
  Trace trace_;
};

}  // namespace millrace
