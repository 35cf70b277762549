#include "apps/common/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runtime/error.h"

namespace millrace {

void write_output(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EPIPE) throw ClosedPipe{};
    require(written >= 0, Errc::io, "standard output: {}", std::strerror(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void check_output_file(std::string_view option, const std::filesystem::path& path) {
  std::error_code failure;
  const auto status = std::filesystem::status(path, failure);
  require(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), Errc::bad_argument,
          "{}: {} is there and no regular file", option, path.string());
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  require(std::filesystem::is_directory(folder, failure), Errc::not_found, "{}: {} is no folder", option,
          folder.string());
}

bool output_is_terminal() noexcept {
  return isatty(STDOUT_FILENO) != 0;
}

bool errors_are_terminal() noexcept {
  return isatty(STDERR_FILENO) != 0;
}

void print_error(std::string_view message) noexcept {
  try {
    print_note(fmt::format("millrace: error: {}\n", printable(message)));
  } catch (...) {
    std::fputs("millrace: error: out of memory\n", stderr);
  }
}

void print_note(std::string_view text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\x{:02x}", byte);
    else
      out += c;
  }
  return out;
}

}  // namespace millrace
