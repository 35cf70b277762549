#include "runtime/machine.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

class ControlGroups : public testing::Test {
 protected:
  void group(const char* path, const char* limit_name, const char* limit, const char* used_name, const char* used,
             const char* stat = "") const {
    fs::create_directories(folder_.path() / path);
    std::ofstream(folder_.path() / path / limit_name) << limit << '\n';
    std::ofstream(folder_.path() / path / used_name) << used << '\n';
    std::ofstream(folder_.path() / path / "memory.stat") << stat;
  }
  void v2(const char* path, const char* limit, const char* used, const char* stat = "") const {
    group(path, "memory.max", limit, "memory.current", used, stat);
  }
  std::uint64_t available(const char* membership) const {
    return available_in_groups(folder_.write("cgroup", membership), folder_.path());
  }

  test::TempFolder folder_;
};

TEST_F(ControlGroups, TheTightestOfAllGroupsAboveDecides) {
  v2("a", "5000", "1000");
  v2("a/b", "max", "900");
  v2("a/b/c", "9000", "800");
  EXPECT_EQ(available("0::/a/b/c\n"), 4000u);
  v2("a/b/c", "3000", "800");
  EXPECT_EQ(available("0::/a/b/c\n"), 2200u);
  v2("a/b/c", "700", "800");
  EXPECT_EQ(available("0::/a/b/c\n"), 0u);
}

TEST_F(ControlGroups, FilesThatWereReadCanBeDropped) {
  v2("a", "5000", "4000", "anon 1000\ninactive_file 2500\nactive_file 300\nslab 7\n");
  EXPECT_EQ(available("0::/a\n"), 3800u);
}

TEST_F(ControlGroups, OfTheFirstVersion) {
  group("memory/x", "memory.limit_in_bytes", "5000", "memory.usage_in_bytes", "4000",
        "inactive_file 1\ntotal_inactive_file 2500\ntotal_active_file 0\n");
  EXPECT_EQ(available("12:cpu,cpuacct:/y\n4:memory:/x\n"), 3500u);
}

TEST_F(ControlGroups, WithoutLimitsOrWithoutGroups) {
  v2("a", "max", "1000");
  EXPECT_EQ(available("0::/a\n"), UINT64_MAX);
  EXPECT_EQ(available(""), UINT64_MAX);
  EXPECT_EQ(available("0::/../../elsewhere\nnonsense\n"), UINT64_MAX);
  EXPECT_EQ(available_in_groups(folder_.path() / "none", folder_.path()), UINT64_MAX);
}

TEST(Machine, SaysWhatThisProcessHas) {
  EXPECT_GT(available_memory(), 0u);
  EXPECT_GT(resident_memory(), 0u);
  EXPECT_GE(peak_resident_memory(), resident_memory() / 2);
}

}  // namespace
}  // namespace millrace
