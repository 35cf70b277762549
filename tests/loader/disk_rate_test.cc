#include "loader/disk_rate.h"

#include <gtest/gtest.h>

#include <vector>

#include "runtime/error.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

TEST(DiskRate, ReadsTheFilesGiven) {
  const test::TempFolder folder;
  const std::vector<std::filesystem::path> files = {folder.write("small", "a"),
                                                    folder.write("large", std::string(std::size_t{50} << 20, 'x'))};
  DiskRate disk;
  EXPECT_GT(disk.sequential(files, std::uint64_t{1} << 30), 0);
  EXPECT_FALSE(disk.how().empty());
  EXPECT_GT(disk.random(files, std::size_t{6} << 20, std::uint64_t{1} << 25, 7), 0);
  EXPECT_GT(DiskRate(std::size_t{12} << 20).random(files, (std::size_t{11} << 20) + 1, std::uint64_t{1} << 25, 7), 0);
  EXPECT_GT(disk.random(files, std::size_t{1} << 40, std::uint64_t{1} << 25, 7), 0) << "cut to what there is room for";
}

TEST(DiskRate, TooLittleToMeasure) {
  const test::TempFolder folder;
  const std::vector<std::filesystem::path> files = {folder.write("small", "a")};
  DiskRate disk;
  EXPECT_EQ(disk.sequential(files, std::uint64_t{1} << 30), 0);
  EXPECT_EQ(disk.random(files, std::size_t{6} << 20, std::uint64_t{1} << 30, 7), 0);
  EXPECT_THROW(disk.sequential(std::vector<std::filesystem::path>{folder.path() / "none"}, 1), Error);
}

}  // namespace
}  // namespace millrace
