#include "model/routing_recorder.h"

#include <gtest/gtest.h>

#include "model/engine.h"
#include "model/session.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

TEST(RoutingRecorder, KeepsEachLayerOfEachPass) {
  const auto engine = Engine::open(test::golden_dir() + "/models/mimo-basic", {.threads = 1});
  const ModelConfig& config = engine->config();
  Session session(*engine);
  RoutingRecorder recorder(config);
  const std::vector<std::int32_t> tokens = {1, 2, 3, 4, 5};
  session.forward(tokens, {.observer = &recorder});
  session.forward(std::span(tokens).first(1), {.observer = &recorder});
  const RoutingTrace& trace = recorder.trace();
  std::size_t moe_layers = 0;
  for (const LayerSpec& layer : config.layers) moe_layers += layer.moe;
  ASSERT_EQ(trace.size(), 2 * moe_layers);
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const RoutingTrace::Entry entry = trace[i];
    EXPECT_TRUE(config.layers[static_cast<std::size_t>(entry.layer)].moe);
    EXPECT_EQ(entry.rows, i < moe_layers ? 5 : 1);
    std::int64_t uses = 0;
    for (const ExpertUse& use : entry.uses) uses += use.rows;
    EXPECT_EQ(uses, entry.rows * config.router.top_k);
  }
}

}  // namespace
}  // namespace millrace
