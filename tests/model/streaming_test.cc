// Experts read from the disk while the model runs: the bits are those of the model in memory, and what goes wrong with
// the files is an error that the session survives.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "loader/uring_reader.h"
#include "tests/model/sessions.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::HasSubstr;

// The smallest cache that will do, which the message says.
std::uint64_t least_bytes(const std::filesystem::path& folder, EngineOptions options) {
  options.expert_cache_bytes = 1;
  const std::string message = test::error_of(Errc::out_of_memory, [&] { Engine::open(folder, options); });
  const std::string before = "at least ";
  return std::stoull(message.substr(message.find(before) + before.size()));
}

std::unique_ptr<Engine> open_streaming(const std::filesystem::path& folder, EngineOptions options) {
  options.expert_cache_bytes = least_bytes(folder, options);
  return Engine::open(folder, options);
}

bool may_use_uring() {
  struct Nobody final : DiskReader::Client {
    void read_done(const DiskRead&, int) noexcept override {}
  } nobody;
  return make_uring_reader(1, nobody, false) != nullptr;
}

class Streaming : public testing::TestWithParam<const char*> {};

TEST_P(Streaming, GivesTheBitsOfTheModelInMemory) {
  const std::filesystem::path folder = std::filesystem::path(test::golden_dir()) / "models" / GetParam();
  for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32}) {
    const EngineOptions options = {.threads = 2, .numerics = numerics};
    const auto whole = Engine::open(folder, options);
    test::Random random(1);
    const test::Tokens tokens = test::random_tokens(random, *whole, 40), more = test::random_tokens(random, *whole, 12);
    Session in_memory(*whole);
    const auto want = test::logits_of(in_memory, tokens), want_more = test::logits_of(in_memory, more);
    for (const DiskIo io : {DiskIo::uring, DiskIo::threads, DiskIo::mapped}) {
      if (io == DiskIo::uring && !may_use_uring()) continue;
      EngineOptions streamed = options;
      streamed.expert_io = io;
      streamed.expert_cache_bytes = least_bytes(folder, streamed);
      const auto engine = Engine::open(folder, streamed);
      ASSERT_EQ(engine->expert_stats().has_value(), io != DiskIo::mapped);
      for (std::int64_t chunk : {512, 7, 1}) {
        Session session(*engine);
        test::expect_same_bits(test::logits_of(session, tokens, {.chunk = chunk}), want, "prompt");
        test::expect_same_bits(test::logits_of(session, more, {.chunk = 1}), want_more, "one by one");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Streaming,
                         testing::Values("mimo-basic", "mimo-odd", "mimo-segmented", "mimo-groups", "mimo-fused-qkv",
                                         "mimo-mxfp4", "minimax-basic", "minimax-odd"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(StreamingFaults, ATruncatedShardEndsOnePassAndNoMore) {
  const std::filesystem::path source = std::filesystem::path(test::golden_dir()) / "models/minimax-basic";
  const test::TempFolder folder;
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(source / name, folder.path() / name);
  const auto engine = open_streaming(folder.path(), {.threads = 1});
  const auto whole = Engine::open(source, {.threads = 1});
  test::Random random(2);
  const test::Tokens tokens = test::random_tokens(random, *engine, 30);
  Session session(*engine), other(*whole);
  test::expect_same_bits(test::logits_of(session, tokens), test::logits_of(other, tokens), "before");
  const std::filesystem::path shard = folder.path() / "model.safetensors";
  const auto size = std::filesystem::file_size(shard);
  std::filesystem::resize_file(shard, size / 16);
  for (int attempt = 0; attempt < 2; ++attempt) {
    const std::string message = test::error_of(Errc::io, [&] { test::logits_of(session, tokens); });
    EXPECT_THAT(message, HasSubstr("model.safetensors: tensor "));
    EXPECT_THAT(message, HasSubstr("changed while it was in use"));
  }
  std::filesystem::remove(shard);
  std::filesystem::copy_file(source / "model.safetensors", shard);
  test::expect_same_bits(test::logits_of(session, tokens), test::logits_of(other, tokens), "after");
}

// A model that is in memory does not need its files any more.
TEST(StreamingFaults, AModelInMemoryGoesOn) {
  const std::filesystem::path source = std::filesystem::path(test::golden_dir()) / "models/mimo-basic";
  const test::TempFolder folder;
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(source / name, folder.path() / name);
  const auto engine = Engine::open(folder.path(), {.threads = 1});
  Session session(*engine), other(*engine);
  const test::Tokens tokens = {1, 2, 3, 4};
  const auto want = test::logits_of(other, tokens);
  std::filesystem::resize_file(folder.path() / "model.safetensors", 4096);
  test::expect_same_bits(test::logits_of(session, tokens), want, "from memory");
}

}  // namespace
}  // namespace millrace
