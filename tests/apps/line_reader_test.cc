// Plain lines only: tests/apps/chat_test.sh edits lines in a pseudo-terminal.
#include "apps/common/line_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

std::vector<std::string> lines_of(const std::string& input) {
  const test::TempFolder folder;
  const int file = open(folder.write("input", input).c_str(), O_RDONLY);
  const int before = dup(STDIN_FILENO);
  dup2(file, STDIN_FILENO);
  const auto reader = LineReader::plain();
  std::vector<std::string> lines;
  for (auto line = reader->read(); line.kind == LineReader::Kind::text; line = reader->read())
    lines.push_back(line.text);
  dup2(before, STDIN_FILENO);
  close(before);
  close(file);
  return lines;
}

using Lines = std::vector<std::string>;

TEST(LineReader, PlainLines) {
  EXPECT_EQ(lines_of(""), Lines{});
  EXPECT_EQ(lines_of("a"), Lines{"a"});
  EXPECT_EQ(lines_of("a\n"), Lines{"a"});
  EXPECT_EQ(lines_of("a\\\r\n\nb\n"), (Lines{"a\\", "", "b"}));
  const std::string longer(200000, 'x');
  EXPECT_EQ(lines_of(longer + "\n" + longer), (Lines{longer, longer}));
}

}  // namespace
}  // namespace millrace
