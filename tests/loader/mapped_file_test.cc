#include "loader/mapped_file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::HasSubstr;

TEST(MappedFile, ShowsTheContents) {
  const test::TempFolder folder;
  const std::string text(10000, 'x');
  MappedFile opened(folder.write("a", text));
  const MappedFile file = std::move(opened);
  file.populate(0, file.bytes());
  file.populate(9999, 1);
  file.populate(10000, 0);
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(file.data()), file.bytes()), text);
  EXPECT_EQ(file.path(), folder.path() / "a");
}

TEST(MappedFile, AnEmptyFileHasNoBytes) {
  const test::TempFolder folder;
  const MappedFile file(folder.write("a", ""));
  EXPECT_EQ(file.bytes(), 0u);
  EXPECT_EQ(file.data(), nullptr);
  file.populate(0, 0);
}

TEST(MappedFile, RefusesWhatIsNoReadableFile) {
  const test::TempFolder folder;
  EXPECT_THAT(test::error_of(Errc::not_found, [&] { MappedFile(folder.path() / "none"); }), HasSubstr("none"));
  EXPECT_THAT(test::error_of(Errc::bad_file, [&] { MappedFile{folder.path()}; }), HasSubstr("directory"));
  const auto pipe = folder.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(test::error_of(Errc::bad_file, [&] { MappedFile{pipe}; }), HasSubstr("regular"));
  if (geteuid() == 0) return;  // root may read everything
  const auto locked = folder.write("locked", "x");
  ASSERT_EQ(chmod(locked.c_str(), 0), 0);
  EXPECT_THAT(test::error_of(Errc::io, [&] { MappedFile{locked}; }), HasSubstr("locked"));
}

TEST(MappedFile, AFileThatShrinksIsAnErrorInsteadOfASignal) {
  const test::TempFolder folder;
  const auto path = folder.write("a.bin", std::string(100000, 'x'));
  const MappedFile file(path);
  std::filesystem::resize_file(path, 10);
  const std::string message = test::error_of(Errc::io, [&] { file.populate(50000, 10); });
  EXPECT_THAT(message, HasSubstr("a.bin"));
  EXPECT_THAT(message, HasSubstr("shrank from 100000 to 10"));
  std::filesystem::resize_file(path, 100000);
  file.populate(50000, 10);
  EXPECT_EQ(file.data()[50000], std::byte{0});
}

TEST(MappedFile, PopulatesOnlyItsOwnBytes) {
  const test::TempFolder folder;
  const MappedFile file(folder.write("a", "0123456789"));
  test::error_of(Errc::bad_argument, [&] { file.populate(5, 6); });
  test::error_of(Errc::bad_argument, [&] { file.populate(11, 0); });
  test::error_of(Errc::bad_argument, [&] { file.populate(1, SIZE_MAX); });
}

}  // namespace
}  // namespace millrace
