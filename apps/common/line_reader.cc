#include "apps/common/line_reader.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t max_line_bytes = std::size_t{1} << 28;

class PlainReader final : public LineReader {
 public:
  Line read() override {
    std::string text;
    while (true) {
      const std::size_t end = rest_.find('\n');
      text += rest_.substr(0, end);
      require(text.size() <= max_line_bytes, Errc::bad_file, "standard input: a line of more than {} bytes",
              max_line_bytes);
      if (end != std::string::npos) {
        rest_.erase(0, end + 1);
        if (text.ends_with('\r')) text.pop_back();
        return {Kind::text, text};
      }
      if (!fill()) return {text.empty() ? Kind::end : Kind::text, text};
    }
  }

 private:
  // Replaces rest_ by the next block of the input. Returns false at its end.
  bool fill() {
    std::array<char, 1 << 16> block;
    ssize_t count;
    do {
      count = ::read(STDIN_FILENO, block.data(), block.size());
    } while (count < 0 && errno == EINTR);
    require(count >= 0, Errc::io, "standard input: {}", std::strerror(errno));
    rest_.assign(block.data(), static_cast<std::size_t>(count));
    return count > 0;
  }

  std::string rest_;  // read but not given out
};

}  // namespace

std::unique_ptr<LineReader> LineReader::plain() {
  return std::make_unique<PlainReader>();
}

}  // namespace millrace
