#include "model/synthetic.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "loader/checkpoint.h"
#include "loader/verify.h"
#include "model/expert_load.h"
#include "model/session.h"
#include "model/synthetic_tensors.h"
#include "tests/model/config_text.h"
#include "tests/model/sessions.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A configuration of tests/golden/configs as a shape.
class SmallShape {
 public:
  explicit SmallShape(const std::string& name, const char* changes = "{}", std::optional<bool> fp8 = std::nullopt)
      : model_(synthetic_model(
            {.shape = scratch_.write("config.json", changed_config(name, changes)).string(), .fp8 = fp8})) {}

  const SyntheticModel& model() const { return model_; }
  std::filesystem::path out() const { return scratch_.path() / "out"; }
  std::filesystem::path write(const SyntheticOptions& options) const {
    write_synthetic(model_, out(), options);
    return out();
  }

 private:
  test::TempFolder scratch_;
  SyntheticModel model_;
};

struct Case {
  std::string config;
  std::optional<bool> fp8;
  int mtp_layers = 0;
  const char* changes = "{}";
};

class SmallShapes : public testing::TestWithParam<Case> {};

TEST_P(SmallShapes, VerifyCleanAndComputeFiniteLogits) {
  const SmallShape shape(GetParam().config, GetParam().changes, GetParam().fp8);
  const SyntheticOptions options = {.mtp_layers = GetParam().mtp_layers, .max_shard_bytes = 200'000};
  const auto folder = shape.write(options);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_GT(checkpoint.files().size(), 2u);
  EXPECT_TRUE(checkpoint.unindexed().empty());
  for (const Finding& finding : verify_checkpoint(checkpoint, {}).findings) ADD_FAILURE() << finding.message;
  EXPECT_EQ(checkpoint.holds(Dtype::f8_e4m3), shape.model().fp8);

  const auto engine = Engine::open(folder, {.threads = 1, .mtp_layers = options.mtp_layers});
  EXPECT_EQ(engine->mtp_layers_in_files(), options.mtp_layers);
  EXPECT_EQ(std::ssize(engine->mtp_programs()), options.mtp_layers);
  EXPECT_TRUE(engine->unused_tensors().empty());
  test::Random random(1);
  ExpertLoad load(engine->config());
  Session session(*engine);
  const auto logits = test::logits_of(session, test::random_tokens(random, *engine, 64), {.observer = &load});
  double sum = 0;
  for (const float value : logits) sum += static_cast<double>(value) * value;
  const double size = std::sqrt(sum / static_cast<double>(logits.size()));
  EXPECT_TRUE(size > 0.3 && size < 3) << size;
  for (const auto& [layer, counts] : load.counts())
    for (const std::int64_t count : counts) EXPECT_GT(count, 0) << "an idle expert of layer " << layer;
}

INSTANTIATE_TEST_SUITE_P(Synthetic, SmallShapes,
                         testing::Values(Case{"mimo-basic", std::nullopt, 2}, Case{"mimo-basic", false, 1},
                                         Case{"mimo-bf16", true, 0}, Case{"mimo-t5", std::nullopt, 1},
                                         Case{"mimo-fused-qkv", std::nullopt, 1},
                                         Case{"mimo-basic", std::nullopt, 0, R"({"attention_bias": true})"},
                                         Case{"minimax-basic", std::nullopt}, Case{"minimax-basic", false}));

TEST(Synthetic, TensorsAreThoseOfThePublishedFiles) {
  const auto find = [](const std::vector<SyntheticTensor>& tensors, std::string_view name) {
    for (const SyntheticTensor& tensor : tensors)
      if (tensor.name == name) return fmt::format("{} {}", name_of(tensor.dtype), shape_text(tensor.shape));
    return std::string("absent");
  };
  const SyntheticModel mimo = synthetic_model({.family = "mimo_v2_flash", .shape = "full"});
  const auto tensors = synthetic_tensors(mimo);
  EXPECT_EQ(find(tensors, "model.layers.0.self_attn.k_proj.weight_scale_inv"), "F32 [8, 32]");
  EXPECT_EQ(find(tensors, "model.layers.1.self_attn.k_proj.weight_scale_inv"), "F32 [12, 32]");
  EXPECT_EQ(find(tensors, "model.layers.1.self_attn.o_proj.weight"), "BF16 [4096, 8192]");
  EXPECT_EQ(find(tensors, "model.layers.0.self_attn.attention_sink_bias"), "absent");
  EXPECT_EQ(find(tensors, "model.layers.1.self_attn.attention_sink_bias"), "BF16 [64]");
  EXPECT_EQ(find(tensors, "model.layers.47.mlp.gate.weight"), "F32 [256, 4096]");
  EXPECT_EQ(find(tensors, "model.layers.0.mlp.down_proj.weight"), "F8_E4M3 [4096, 16384]");
  const auto mtp = synthetic_mtp_tensors(mimo, 3);
  EXPECT_EQ(find(mtp, "model.mtp.layers.2.eh_proj.weight"), "BF16 [4096, 8192]");
  // Twenty as published, and six scales among them counted apart.
  EXPECT_EQ(mtp.size(), 3u * (14 + 6));

  const SyntheticModel minimax = synthetic_model({.family = "minimax_m2", .shape = "full"});
  const auto others = synthetic_tensors(minimax);
  EXPECT_EQ(others.size(), 96103u);
  EXPECT_EQ(find(others, "model.layers.61.self_attn.o_proj.weight_scale_inv"), "F32 [24, 48]");
  EXPECT_EQ(find(others, "model.layers.0.self_attn.q_norm.weight"), "BF16 [6144]");
  EXPECT_EQ(find(others, "model.layers.0.block_sparse_moe.experts.255.w2.weight"), "F8_E4M3 [3072, 1536]");
  test::error_of(Errc::bad_argument, [&] { synthetic_mtp_tensors(minimax, 1); });
}

TEST(Synthetic, NamedShapesTakeOtherNumbersOfLayersAndExperts) {
  for (const SyntheticShape& shape : synthetic_shapes()) {
    const SyntheticRequest request = {
        .family = std::string(shape.family), .shape = std::string(shape.name), .layers = 14, .experts = 10};
    const SyntheticModel model = synthetic_model(request);
    EXPECT_EQ(model.config.layers.size(), 14u);
    EXPECT_EQ(model.config.router.experts, 10);
    EXPECT_TRUE(model.fp8);
    if (shape.family == "minimax_m2") continue;
    EXPECT_EQ(model.config.layers[11].attention, AttentionKind::full);
    EXPECT_EQ(model.config.layers[13].attention, AttentionKind::sliding);
    EXPECT_FALSE(model.config.layers[0].moe);
    EXPECT_TRUE(model.config.layers[13].moe);
  }
  const SyntheticModel reduced = synthetic_model({.shape = "mimo-reduced", .fp8 = false});
  EXPECT_FALSE(reduced.fp8);
  EXPECT_EQ(reduced.config.layers.size(), 12u);
}

TEST(Synthetic, TheSameSeedGivesTheSameBytes) {
  const SmallShape shape("mimo-basic");
  const auto bytes = [&](std::uint64_t seed) {
    const auto folder = shape.write({.seed = seed});
    const std::string text = file_text((folder / "model-00001-of-00001.safetensors").string());
    std::filesystem::remove_all(folder);
    return text;
  };
  const std::string first = bytes(7);
  EXPECT_TRUE(bytes(7) == first);
  EXPECT_FALSE(bytes(8) == first);
}

TEST(Synthetic, WrongShapesAreRefused) {
  EXPECT_THAT(test::error_of(Errc::bad_argument, [] { synthetic_model({.shape = "mimo"}); }),
              AllOf(HasSubstr("mimo-reduced-256"), HasSubstr("\"mimo\"")));
  EXPECT_THAT(test::error_of(Errc::bad_argument, [] { synthetic_model({.shape = "full"}); }), HasSubstr("family"));
  EXPECT_THAT(
      test::error_of(Errc::bad_argument, [] { synthetic_model({.family = "minimax_m2", .shape = "mimo-layers"}); }),
      HasSubstr("minimax-reduced"));
  EXPECT_THAT(test::error_of(Errc::bad_config, [] { synthetic_model({.shape = "mimo-reduced", .experts = 4}); }),
              HasSubstr("num_experts_per_tok"));
  EXPECT_THAT(test::error_of(Errc::unsupported, [] { SmallShape shape("mimo-mxfp4"); }), HasSubstr("mxfp4"));
}

TEST(Synthetic, AFullDiskOrFolderIsRefusedInAdvance) {
  const SmallShape shape("minimax-basic");
  const std::uint64_t bytes = synthetic_bytes(shape.model(), {});
  EXPECT_THAT(test::error_of(Errc::io, [&] { shape.write({.free_bytes = bytes}); }), HasSubstr("left"));
  EXPECT_FALSE(std::filesystem::exists(shape.out()));
  std::filesystem::create_directory(shape.out());
  shape.write({.free_bytes = 2 * bytes});
  EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { shape.write({}); }), HasSubstr("not empty"));
}

TEST(Synthetic, AnInterruptedWriteLeavesNothing) {
  const SmallShape shape("minimax-basic");
  for (const double part : {0.0, 0.5, 1.0}) {
    SyntheticOptions options = {.max_shard_bytes = 100'000};
    options.progress = [part](std::uint64_t done, std::uint64_t total) {
      if (static_cast<double>(done) >= part * static_cast<double>(total)) fail(Errc::cancelled, "enough");
    };
    test::error_of(Errc::cancelled, [&] { shape.write(options); });
    EXPECT_FALSE(std::filesystem::exists(shape.out()));
  }
}

TEST(Synthetic, SparseFoldersHaveEverythingButData) {
  const SmallShape shape("mimo-basic");
  const auto folder = shape.write({.mtp_layers = 1, .sparse = true, .free_bytes = 1'000'000});
  const auto engine = Engine::open(folder, {.threads = 1, .headers_only = true});
  EXPECT_EQ(engine->mtp_layers_in_files(), 1);
}

}  // namespace
}  // namespace millrace
