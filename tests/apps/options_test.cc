#include "apps/common/options.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

EngineFlags parse(const std::string& arguments) {
  CLI::App app;
  EngineFlags flags;
  add_engine_options(app, flags);
  app.parse(arguments);
  return flags;
}

TEST(EngineFlags, DefaultsAreThoseOfTheEngine) {
  const EngineOptions options = engine_options(parse("")), defaults;
  EXPECT_EQ(options.threads, defaults.threads);
  EXPECT_EQ(options.numerics, defaults.numerics);
  EXPECT_EQ(options.weights, defaults.weights);
  EXPECT_EQ(options.context, defaults.context);
  EXPECT_EQ(options.chunk, defaults.chunk);
  EXPECT_EQ(options.window, defaults.window);
}

TEST(EngineFlags, EveryFlagArrives) {
  const EngineFlags flags = parse("-m dir --threads 3 --isa avx2 --numerics hf --weights fp8 --ctx 100 --window 9");
  EXPECT_EQ(model_folder(flags.model), "dir");
  EXPECT_EQ(flags.isa, "avx2");
  const EngineOptions options = engine_options(flags);
  EXPECT_EQ(options.threads, 3);
  EXPECT_EQ(options.numerics, Numerics::hf);
  EXPECT_EQ(options.weights, WeightFormat::fp8);
  EXPECT_EQ(options.context, 100);
  EXPECT_EQ(options.window, 9);
  EXPECT_EQ(engine_options(parse("--numerics f32")).numerics, Numerics::f32);
  EXPECT_EQ(engine_options(parse("--numerics w8a8")).numerics, Numerics::w8a8);
  EXPECT_EQ(engine_options(parse("--numerics w8a8-ue8m0")).numerics, Numerics::w8a8_ue8m0);
  EXPECT_EQ(engine_options(parse("--numerics w8a8-bf16")).numerics, Numerics::w8a8_bf16);
  EXPECT_EQ(engine_options(parse("--numerics w8a8-bf16-ue8m0")).numerics, Numerics::w8a8_bf16_ue8m0);
  EXPECT_EQ(engine_options(parse("--weights bf16")).weights, WeightFormat::bf16);
}

TEST(EngineFlags, RefusesOtherValues) {
  for (const char* wrong : {"--threads 0", "--threads 10000", "--threads x", "--isa sse", "--numerics f64",
                            "--weights fp4", "--ctx 0", "--window -1", "--nonsense"})
    EXPECT_THROW(parse(wrong), CLI::ParseError) << wrong;
}

}  // namespace
}  // namespace millrace
