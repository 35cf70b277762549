#include "apps/common/prompt_progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/support/paths.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// Standard error is a terminal while this lives.
class Terminal {
 public:
  Terminal() : master_(posix_openpt(O_RDWR | O_NOCTTY)), saved_(dup(STDERR_FILENO)) {
    if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0) return;
    const int slave = open(ptsname(master_), O_RDWR | O_NOCTTY);
    if (slave < 0) return;
    works_ = dup2(slave, STDERR_FILENO) == STDERR_FILENO;
    close(slave);
  }
  ~Terminal() {
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    if (master_ >= 0) close(master_);
  }

  bool works() const { return works_; }
  // What was written since. It takes its time to the other side, so a mark goes behind it.
  std::string shown() const {
    constexpr std::string_view mark = "<end>";
    std::string text;
    if (write(STDERR_FILENO, mark.data(), mark.size()) != std::ssize(mark)) return text;
    while (!text.ends_with(mark)) {
      char piece[4096];
      const ssize_t count = read(master_, piece, sizeof piece);
      if (count <= 0) return text;
      text.append(piece, static_cast<std::size_t>(count));
    }
    text.resize(text.size() - mark.size());
    return text;
  }

 private:
  int master_, saved_;
  bool works_ = false;
};

TEST(PromptProgress, IsShownUntilTheTokensAreComputed) {
  const auto engine = Engine::open(test::golden_dir() + "/models/minimax-basic", {.threads = 1, .chunk = 8});
  Session session(*engine);
  const Terminal terminal;
  if (!terminal.works()) GTEST_SKIP() << "no terminals here";
  PromptProgress progress(session, std::chrono::milliseconds(0));
  session.forward(std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20},
                  {.observer = &progress});
  const std::string shown = terminal.shown();
  EXPECT_THAT(shown, HasSubstr("Prompt ["));
  EXPECT_THAT(shown, HasSubstr(" of 20"));
  EXPECT_THAT(shown, testing::EndsWith("\r\x1b[K"));
  session.forward(std::vector<std::int32_t>{21, 22}, {.observer = &progress});
  EXPECT_THAT(terminal.shown(), IsEmpty()) << "the call it was made for is over";
}

}  // namespace
}  // namespace millrace
