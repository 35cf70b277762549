#include "apps/common/progress.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

constexpr std::uint64_t gib = std::uint64_t{1} << 30;

TEST(ProgressBar, Line) {
  EXPECT_EQ(progress_line("Loading", gib, 4 * gib, 2),
            "Loading [######..................]  25%  1.0 GiB of 4.0 GiB  512.0 MiB/s  0:06 left");
  EXPECT_EQ(progress_line("Loading", 4 * gib, 4 * gib, 100),
            "Loading [########################] 100%  4.0 GiB of 4.0 GiB  41.0 MiB/s  0:00 left");
}

TEST(ProgressBar, CountsTokens) {
  EXPECT_EQ(progress_line("Computing", 500, 2000, 2, ProgressBar::Unit::tokens),
            "Computing [######..................]  25%  500 of 2000 tokens  250/s  0:06 left");
}

TEST(ProgressBar, TellsWhatWasRead) {
  const std::string line = progress_line("Prompt", 10923, 32768, 223, ProgressBar::Unit::tokens, 123 * gib + gib / 2);
  EXPECT_EQ(line, "Prompt [##......]  33%  10923 of 32768 tokens  49/s  7:26 left  123.5 GiB read");
  EXPECT_LT(line.size(), 80u);
}

TEST(ProgressBar, NothingDividesByZero) {
  EXPECT_EQ(progress_line("X", 0, 0, 0), "X [########################] 100%  0 B of 0 B");
  EXPECT_EQ(progress_line("X", 0, 10, 1), "X [........................]   0%  0 B of 10 B");
}

TEST(ProgressBar, MoreThanPromised) {
  EXPECT_EQ(progress_line("X", 20, 10, 1), "X [########################] 100%  20 B of 10 B  20 B/s  0:00 left");
}

TEST(BytesText, Units) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(96.0 * static_cast<double>(gib)), "96.0 GiB");
}

}  // namespace
}  // namespace millrace
