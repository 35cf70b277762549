#include "loader/shard_plan.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/errors.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names(const Shard& shard) {
  std::vector<std::string> out;
  for (const TensorHeader& tensor : shard.tensors) out.push_back(tensor.name);
  return out;
}

TEST(ShardPlan, ModulesStayTogetherAndWiderTypesComeFirst) {
  const std::vector<TensorHeader> tensors = {{"m.embed.weight", Dtype::bf16, {10}},
                                             {"m.experts.0.up.weight", Dtype::f8_e4m3, {8}},
                                             {"m.experts.0.up.weight_scale_inv", Dtype::f32, {1}},
                                             {"m.experts.0.down.weight", Dtype::f8_e4m3, {8}},
                                             {"m.experts.1.up.weight", Dtype::f8_e4m3, {30}},
                                             {"head.weight", Dtype::bf16, {4}}};
  const std::vector<Shard> shards = plan_shards(tensors, 40);
  ASSERT_EQ(shards.size(), 2u);
  EXPECT_EQ(shards[0].file, "model-00001-of-00002.safetensors");
  EXPECT_EQ(shards[0].bytes, 40u);
  EXPECT_THAT(names(shards[0]), ElementsAre("m.experts.0.up.weight_scale_inv", "m.embed.weight",
                                            "m.experts.0.down.weight", "m.experts.0.up.weight"));
  EXPECT_THAT(names(shards[1]), ElementsAre("head.weight", "m.experts.1.up.weight"));

  const std::vector<Shard> each = plan_shards(tensors, 1);
  ASSERT_EQ(each.size(), 4u);
  EXPECT_EQ(names(each[1]).size(), 3u);
}

TEST(ShardPlan, TheIndexNamesEveryTensor) {
  const std::vector<TensorHeader> tensors = {{"a.b.weight", Dtype::f32, {2}}, {"c.d.weight", Dtype::f32, {3}}};
  const auto index = nlohmann::json::parse(index_text(plan_shards(tensors, 8)));
  EXPECT_EQ(index["metadata"]["total_size"], 20);
  EXPECT_EQ(index["weight_map"]["a.b.weight"], "model-00001-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"]["c.d.weight"], "model-00002-of-00002.safetensors");
}

TEST(ShardPlan, ImpossibleShapesAreRefused) {
  const std::vector<TensorHeader> tensors = {{"a.b.weight", Dtype::f32, {-1}}};
  EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { plan_shards(tensors, 8); }), HasSubstr("a.b.weight"));
}

}  // namespace
}  // namespace millrace
