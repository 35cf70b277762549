#include "apps/common/glob.h"

#include <gmock/gmock.h>

namespace millrace {
namespace {

TEST(Glob, Matches) {
  EXPECT_TRUE(glob_match("norm", "norm"));
  EXPECT_FALSE(glob_match("norm", "norms"));
  EXPECT_FALSE(glob_match("norms", "norm"));
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("*", "layers.0.mlp"));
  EXPECT_TRUE(glob_match("layers.*.mlp", "layers.11.mlp"));
  EXPECT_TRUE(glob_match("layers.*.mlp", "layers.1.x.mlp"));
  EXPECT_FALSE(glob_match("layers.*.mlp", "layers.1.mlp.topk_ids"));
  EXPECT_TRUE(glob_match("layers.?", "layers.3"));
  EXPECT_FALSE(glob_match("layers.?", "layers.13"));
  EXPECT_FALSE(glob_match("layers.?", "layers."));
  EXPECT_TRUE(glob_match("*.self_attn.?", "layers.2.self_attn.q"));
  EXPECT_TRUE(glob_match("a**b", "ab"));
  EXPECT_FALSE(glob_match("", "a"));
  EXPECT_TRUE(glob_match("", ""));
}

TEST(Glob, StarsCostNoExponentialTime) {
  EXPECT_FALSE(glob_match("*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(5000, 'a')));
}

TEST(Glob, NearestNames) {
  const std::vector<std::string> names = {"embed_tokens", "layers.0", "layers.0.mlp", "norm", "logits"};
  EXPECT_THAT(nearest_names("layer.0", names, 2), testing::ElementsAre("layers.0", "layers.0.mlp"));
  EXPECT_THAT(nearest_names("", {}, 3), testing::IsEmpty());
  EXPECT_EQ(nearest_names("x", names, 9).size(), 5u);
}

}  // namespace
}  // namespace millrace
