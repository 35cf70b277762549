// A shard that is cut off while experts are used in the mapped file ends in an error of the next pass.
#include <gtest/gtest.h>

#include <filesystem>

#include "model/engine.h"
#include "model/session.h"
#include "runtime/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

TEST(ShrinkingFile, EndsInAnErrorOfTheNextPass) {
  const std::filesystem::path source = std::filesystem::path(test::golden_dir()) / "models/mimo-basic";
  for (WeightFormat weights : {WeightFormat::fp8, WeightFormat::bf16}) {
    const test::TempFolder folder;
    for (const char* name : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(source / name, folder.path() / name);
    const auto engine = Engine::open(
        folder.path(), {.threads = 1, .weights = weights, .expert_cache_bytes = 64 << 20, .expert_io = DiskIo::mapped});
    Session session(*engine);
    const std::vector<std::int32_t> tokens = {1, 2, 3, 150, 151, 152};
    EXPECT_NO_THROW(session.forward(tokens));
    std::filesystem::resize_file(folder.path() / "model.safetensors", 4096);
    try {
      session.forward(tokens);
      FAIL() << "the shrunken file went unnoticed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::io);
      EXPECT_NE(std::string(error.what()).find("model.safetensors"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace millrace
