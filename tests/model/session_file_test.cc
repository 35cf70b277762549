// Sessions saved and loaded: they go on with the same bits, and nothing wrong gets in.
#include <gmock/gmock.h>

#include <fstream>

#include "loader/kv_file.h"
#include "loader/safetensors.h"
#include "model/fingerprint.h"
#include "model/generate.h"
#include "tests/model/sessions.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using namespace test;

std::int32_t best(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

TEST(SessionFile, AGenerationGoesOnWhereItWasSaved) {
  const TempFolder folder;
  for (const char* model : {"mimo-basic", "mimo-odd", "minimax-basic"})
    for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32}) {
      const auto engine = open_golden(model, numerics);
      Random random(1);
      Session session(*engine);
      std::vector<float> logits = logits_of(session, random_tokens(random, *engine, 50));
      for (int i = 0; i < 30; ++i) {
        const std::int32_t next = best(std::span(logits).last(static_cast<std::size_t>(engine->config().vocab)));
        logits = logits_of(session, {next});
        if (i % 7 != 3) continue;
        session.save(folder.path() / "session.kv");
        // Another engine, as after a restart.
        const auto again = open_golden(model, numerics, {.threads = 1, .chunk = 7});
        Session loaded(*again);
        loaded.forward(Tokens{3, 1, 4});
        loaded.load(folder.path() / "session.kv");
        EXPECT_THAT(loaded.tokens(), testing::ElementsAreArray(session.tokens()));
        EXPECT_EQ(loaded.cache().length(), session.length());
        Session fork = session.fork();
        for (std::int64_t cut : {0, 5, 40}) {
          loaded.truncate(loaded.length() - cut);
          fork.truncate(fork.length() - cut);
          const Tokens tokens = random_tokens(random, *engine, 20);
          expect_same_bits(logits_of(loaded, tokens), logits_of(fork, tokens), "loaded");
        }
      }
    }
}

// What the prediction layers know is neither saved nor forked; the tokens do not depend on it.
TEST(SessionFile, GuessingStartsAnewAndChangesNoToken) {
  const TempFolder folder;
  const auto engine = open_golden("mimo-basic", Numerics::fast, {.mtp_layers = 3});
  Random random(4);
  const Tokens prompt = random_tokens(random, *engine, 30);
  GenerateOptions options{.max_tokens = 40, .sampling = {.temperature = 0}, .ignore_eos = true, .guesses = 0};
  Session plain(*engine);
  const Tokens want = generate(plain, prompt, options, {}).ids;

  options.guesses = 2;
  options.max_tokens = 20;
  Session session(*engine), loaded(*engine);
  const Tokens first = generate(session, prompt, options, {}).ids;
  session.save(folder.path() / "session.kv");
  generate(loaded, prompt, options, {});
  loaded.load(folder.path() / "session.kv");
  Session fork = session.fork();
  for (Session* next : {&session, &loaded, &fork})
    EXPECT_EQ(joined(first, generate(*next, std::span(first).last(1), options, {}).ids), want);
}

TEST(SessionFile, TokensThatAreNotCachedAreSavedToo) {
  const TempFolder folder;
  const auto engine = open_golden("mimo-basic", Numerics::fast);
  Random random(2);
  Session session(*engine), loaded(*engine);
  session.save(folder.path() / "empty.kv");
  const Tokens tokens = random_tokens(random, *engine, 90), next = random_tokens(random, *engine, 4);
  session.forward(tokens, {.positions = std::vector<std::int32_t>(90, 77)});
  session.truncate(40);  // further than the rings reach
  session.save(folder.path() / "session.kv");
  loaded.load(folder.path() / "session.kv");
  EXPECT_EQ(loaded.length(), 40);
  EXPECT_EQ(loaded.cache().length(), 0);
  expect_same_bits(logits_of(loaded, next), logits_of(session, next), "computed again");
  EXPECT_EQ(loaded.positions()[40], 78);
  loaded.load(folder.path() / "empty.kv");
  EXPECT_EQ(loaded.length(), 0);
  expect_same_bits(logits_of(loaded, next), fresh_logits(*engine, {}, next), "empty");
}

TEST(SessionFile, EmbeddingsAreNotSavedButWhatTheyLeftIs) {
  const TempFolder folder;
  const auto engine = open_golden("mimo-basic", Numerics::fast);
  Random random(3);
  const std::vector<float> embeddings = random.normals(5 * engine->config().hidden);
  Session session(*engine), loaded(*engine);
  session.forward({}, {.inputs = {.embeddings = embeddings}});
  session.forward(Tokens{1, 2});
  session.save(folder.path() / "session.kv");
  loaded.load(folder.path() / "session.kv");
  EXPECT_THAT(loaded.tokens(), testing::ElementsAre(-1, -1, -1, -1, -1, 1, 2));
  expect_same_bits(logits_of(loaded, {3, 4}), logits_of(session, {3, 4}), "after embeddings");
  EXPECT_THAT(error_of(Errc::unsupported, [&] { loaded.forward(Tokens{1}, {.use_cache = false}); }),
              HasSubstr("first 5 tokens"));
  EXPECT_EQ(loaded.length(), 9);
}

TEST(SessionFile, RefusesFilesOfOtherModelsAndNumerics) {
  const TempFolder folder;
  const auto path = folder.path() / "session.kv";
  const auto engine = open_golden("mimo-basic", Numerics::fast);
  Session session(*engine);
  session.forward(Tokens{1, 2, 3});
  session.save(path);
  const auto refused = [&](const Engine& other) {
    Session loading(other);
    loading.forward(Tokens{5, 6});
    const std::string text = error_of(Errc::bad_file, [&] { loading.load(path); });
    EXPECT_THAT(text, HasSubstr("session.kv: saved with another model, other numerics or another window"));
    EXPECT_THAT(text, HasSubstr(fingerprint_of(*engine)));
    EXPECT_THAT(text, HasSubstr(fingerprint_of(other)));
    EXPECT_THAT(loading.tokens(), testing::ElementsAre(5, 6));
    expect_same_bits(logits_of(loading, {7}), fresh_logits(other, {5, 6}, {7}), "as before");
  };
  refused(*open_golden("mimo-basic", Numerics::hf));
  refused(*open_golden("mimo-basic", Numerics::f32));
  refused(*open_golden("mimo-basic", Numerics::fast, {.window = 5}));
  refused(*open_golden("mimo-odd", Numerics::fast));
}

// The same folder but for one byte of one weight.
TEST(SessionFile, TheFingerprintSeesTheWeights) {
  const TempFolder folder;
  const std::filesystem::path source = std::filesystem::path(golden_dir()) / "models/mimo-basic";
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(source / name, folder.path() / name);
  const auto fingerprint = [&] { return fingerprint_of(*Engine::open(folder.path(), {.threads = 1})); };
  const std::string before = fingerprint();
  EXPECT_EQ(before.size(), 64u);
  EXPECT_EQ(before, fingerprint());
  EXPECT_EQ(before, fingerprint_of(*open_golden("mimo-basic", Numerics::fast, {.weights = WeightFormat::bf16})));
  const SafetensorsFile file(folder.path() / "model.safetensors");
  const TensorEntry* norm = file.find("model.norm.weight");
  ASSERT_NE(norm, nullptr);
  std::fstream stream(folder.path() / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(static_cast<std::streamoff>(norm->offset));
  stream.put('\x11');
  stream.close();
  EXPECT_NE(before, fingerprint());
}

TEST(SessionFile, RefusesTokensThatTheModelDoesNotHave) {
  const TempFolder folder;
  const auto path = folder.path() / "session.kv";
  const auto engine = open_golden("mimo-basic", Numerics::fast);
  const KvCache nothing(engine->program().kv_layers(), engine->kv_dtype(), 100);
  Session session(*engine);
  const auto vocab = static_cast<std::int32_t>(engine->config().vocab);
  write_kv_file(path, fingerprint_of(*engine), Tokens{1, vocab}, Tokens{0, 1}, 0, nothing);
  EXPECT_THAT(error_of(Errc::bad_file, [&] { session.load(path); }), HasSubstr(fmt::format("token id {}", vocab)));
  write_kv_file(path, fingerprint_of(*engine), Tokens{1, 2}, Tokens{0, -1}, 0, nothing);
  EXPECT_THAT(error_of(Errc::bad_file, [&] { session.load(path); }), HasSubstr("position -1"));
  EXPECT_EQ(session.length(), 0);
}

}  // namespace
}  // namespace millrace
