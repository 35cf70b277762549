#include "loader/atomic_file.h"

#include <gmock/gmock.h>

#include "loader/text_file.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::HasSubstr;

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(AtomicFile, ReplacesAFileOnlyWhenFinished) {
  const test::TempFolder folder;
  const auto path = folder.write("a", "old");
  {
    AtomicFile file(path);
    file.write(bytes("new"));
    EXPECT_EQ(read_text_file(path, 100), "old");
  }
  EXPECT_EQ(read_text_file(path, 100), "old");
  EXPECT_EQ(folder.entries(), 1);
  AtomicFile file(path);
  file.write(bytes("ne"));
  file.write(bytes("w"));
  file.finish();
  EXPECT_EQ(read_text_file(path, 100), "new");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(AtomicFile, FailuresNameTheFile) {
  const test::TempFolder folder;
  EXPECT_THAT(test::error_of(Errc::io, [&] { AtomicFile file(folder.path() / "none" / "a"); }), HasSubstr("none/a"));
  AtomicFile file(folder.path());
  EXPECT_THAT(test::error_of(Errc::io, [&] { file.finish(); }), HasSubstr("name"));
}

}  // namespace
}  // namespace millrace
