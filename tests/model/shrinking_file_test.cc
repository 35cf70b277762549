// A shard that is cut off while the model runs ends in an error, never in SIGBUS.
#include <gtest/gtest.h>

#include <filesystem>

#include "model/engine.h"
#include "model/session.h"
#include "runtime/error.h"
#include "runtime/observer.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

// Cuts a file off in the middle of a pass.
class Truncate final : public Observer {
 public:
  explicit Truncate(std::filesystem::path path) : path_(std::move(path)) {}
  void before(const Program&, const Step& step) override {
    if (step.name == "layers.1.input_layernorm") std::filesystem::resize_file(path_, 4096);
  }
  void after(const Program&, const Step&, const StepContext&) override {}

 private:
  std::filesystem::path path_;
};

TEST(ShrinkingFile, EndsInAnErrorOfTheNextPass) {
  const std::filesystem::path source = std::filesystem::path(test::golden_dir()) / "models/mimo-basic";
  for (WeightFormat weights : {WeightFormat::fp8, WeightFormat::bf16}) {
    const test::TempFolder folder;
    for (const char* name : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(source / name, folder.path() / name);
    const auto engine = Engine::open(folder.path(), {.threads = 1, .weights = weights});
    Session session(*engine);
    Truncate truncate(folder.path() / "model.safetensors");
    const std::vector<std::int32_t> tokens = {1, 2, 3, 150, 151, 152};
    EXPECT_NO_THROW(session.forward(tokens, {.observer = &truncate}));
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
