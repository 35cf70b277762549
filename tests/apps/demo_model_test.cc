#include "apps/common/demo_model.h"
#include "tests/support/paths.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace millrace {
namespace {

namespace fs = std::filesystem;

// An empty folder of its own, removed at the end.
class DemoModel : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("demo_model_" + std::to_string(getpid()));
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  fs::path add_model(const fs::path& folder) {
    fs::create_directories(root_ / folder);
    std::ofstream(root_ / folder / "config.json") << "{}";
    return root_ / folder;
  }

  fs::path root_;
};

TEST_F(DemoModel, OfTheSourceTreeTheTestsAreBuiltIn) {
  const auto found = find_demo_model(fs::path(test::source_dir()) / "build" / "anything" / "apps");
  EXPECT_EQ(found, fs::path(test::source_dir()) / "apps" / "demo" / "millrace-demo");
}

TEST_F(DemoModel, OfAnInstalledTree) {
  const fs::path model = add_model("prefix/share/millrace/millrace-demo");
  EXPECT_EQ(find_demo_model(root_ / "prefix/bin"), model);
  EXPECT_EQ(find_demo_model(root_ / "other/bin"), std::nullopt);
}

TEST_F(DemoModel, InstalledBeforeSource) {
  add_model("apps/demo/millrace-demo");
  const fs::path model = add_model("prefix/share/millrace/millrace-demo");
  EXPECT_EQ(find_demo_model(root_ / "prefix/bin"), model);
}

TEST_F(DemoModel, AFolderWithoutConfigurationIsNone) {
  fs::create_directories(root_ / "apps/demo/millrace-demo");
  EXPECT_EQ(find_demo_model(root_ / "build"), std::nullopt);
}

}  // namespace
}  // namespace millrace
