// What a program writes: answers to standard output, everything else to standard error. Used by one thread at a time.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace millrace {

// Standard output was closed by its reader, e.g. `millrace ... | head`: a reason to end, not an error.
struct ClosedPipe {};

// Writes all of `text` to standard output at once. Throws ClosedPipe, or Error(io) when the system refuses.
// SIGPIPE must be ignored.
void write_output(std::string_view text);

// Before anything is computed: whether the file that `option` names can be made at all. Throws Error naming both.
void check_output_file(std::string_view option, const std::filesystem::path& path);

bool output_is_terminal() noexcept;
bool errors_are_terminal() noexcept;

// One line on standard error: "millrace: error: <message>". Never throws.
void print_error(std::string_view message) noexcept;
// Lines on standard error that are no errors.
void print_note(std::string_view text) noexcept;

// `text` with control characters written as \xNN, so that a name from a file cannot steer the terminal.
std::string printable(std::string_view text);

}  // namespace millrace
