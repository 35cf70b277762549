// The order contract, end to end: what a model computes does not depend on how the work was cut up.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "model/engine.h"
#include "model/session.h"
#include "tests/support/compare.h"
#include "tests/support/paths.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

const std::string models = test::golden_dir() + "/models/";

// 83 tokens: more than one chunk of 64 and many windows.
std::vector<std::int32_t> prompt(const Engine& engine) {
  std::vector<std::int32_t> ids(83);
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>((i * i * 31 + i * 7 + 3) % static_cast<std::size_t>(engine.config().vocab));
  return ids;
}

struct Way {
  int threads = 1;
  std::int64_t chunk = 512;
  std::optional<WeightFormat> weights = {};
};

std::vector<float> all_logits(const std::string& name, Numerics numerics, const Way& way) {
  const auto engine =
      Engine::open(models + name, {.threads = way.threads, .numerics = numerics, .weights = way.weights});
  const auto ids = prompt(*engine);
  Session session(*engine);
  const auto logits = session.forward(ids, {.logits_rows = std::ssize(ids), .chunk = way.chunk});
  return {logits.begin(), logits.end()};
}

class SameBits : public testing::TestWithParam<std::tuple<const char*, Numerics>> {};

TEST_P(SameBits, WhateverThreadsChunksWeightsAndTier) {
  const auto& [model, numerics] = GetParam();
  std::string name = model;
  std::replace(name.begin(), name.end(), '_', '-');
  const auto want = all_logits(name, numerics, {});
  for (int threads : {2, 3}) test::expect_same_bits(all_logits(name, numerics, {.threads = threads}), want, "threads");
  for (std::int64_t chunk : {1, 7, 64})
    test::expect_same_bits(all_logits(name, numerics, {.threads = 2, .chunk = chunk}), want, "chunk");
  for (WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8})
    test::expect_same_bits(all_logits(name, numerics, {.weights = format}), want, "weights");
  for (Isa isa : test::present_tiers()) {
    if (numerics == Numerics::fast && (isa == Isa::amx) != (active_isa() == Isa::amx)) continue;  // tiles' own order
    const test::WithIsa with(isa);
    test::expect_same_bits(all_logits(name, numerics, {.chunk = 7}), want, name_of(isa).data());
  }
}

// Flags of `rows` new rows after `held` ones: row i sees the last `window` keys up to itself.
std::vector<std::uint8_t> band(std::int64_t held, std::int64_t rows, std::int64_t window) {
  std::vector<std::uint8_t> visible;
  for (std::int64_t row = held; row < held + rows; ++row)
    for (std::int64_t key = 0; key < held + rows; ++key) visible.push_back(key <= row && key > row - window ? 1 : 0);
  return visible;
}

// All logits of calls of 1, 30, 1, 11 and 40 tokens. With `masked` > 0 the sliding layers keep every key, and a mask
// shows that many.
std::vector<float> in_calls(const std::string& name, Numerics numerics, std::int64_t window, std::int64_t masked) {
  const auto engine = Engine::open(models + name, {.threads = 2, .numerics = numerics, .window = window});
  const auto ids = prompt(*engine);
  Session session(*engine);
  std::vector<float> all;
  std::int64_t done = 0;
  for (std::int64_t rows : {1, 30, 1, 11, 40}) {
    const auto visible = band(done, rows, masked);
    const LayerMask mask{.kind = "sliding_attention", .visible = visible};
    ForwardOptions options{.logits_rows = rows};
    if (masked > 0) options.inputs.masks = {&mask, 1};
    const auto tokens = std::span(ids).subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(rows));
    const auto logits = session.forward(tokens, options);
    all.insert(all.end(), logits.begin(), logits.end());
    done += rows;
  }
  return all;
}

// Of models with sliding layers.
class SameBitsOfRings : public SameBits {};

TEST_P(SameBitsOfRings, ARingIsAMaskOverAllKeys) {
  const auto& [model, numerics] = GetParam();
  std::string name = model;
  std::replace(name.begin(), name.end(), '_', '-');
  for (std::int64_t window : {1, 2, 9, 40})
    test::expect_same_bits(in_calls(name, numerics, window, 0), in_calls(name, numerics, 1000, window), "ring");
  test::expect_same_bits(in_calls(name, numerics, 83, 0), in_calls(name, numerics, 1000, 1000), "all keys");
}

std::string name_of_case(const testing::TestParamInfo<SameBits::ParamType>& chosen) {
  constexpr std::array<const char*, 7> names = {"fast",           "hf", "f32", "w8a8", "w8a8_ue8m0", "w8a8_bf16",
                                                "w8a8_bf16_ue8m0"};
  return std::string(std::get<0>(chosen.param)) + "_" + names.at(static_cast<std::size_t>(std::get<1>(chosen.param)));
}

INSTANTIATE_TEST_SUITE_P(Families, SameBits,
                         testing::Combine(testing::Values("mimo_basic", "mimo_odd", "mimo_segmented", "mimo_groups",
                                                          "mimo_fused_qkv", "mimo_mxfp4", "minimax_basic",
                                                          "minimax_odd"),
                                          testing::Values(Numerics::fast, Numerics::hf, Numerics::f32)),
                         name_of_case);

INSTANTIATE_TEST_SUITE_P(Families, SameBitsOfRings,
                         testing::Combine(testing::Values("mimo_basic", "mimo_odd", "mimo_segmented", "mimo_groups",
                                                          "mimo_fused_qkv", "mimo_mxfp4"),
                                          testing::Values(Numerics::fast, Numerics::hf, Numerics::f32)),
                         name_of_case);

INSTANTIATE_TEST_SUITE_P(QuantizedInputs, SameBits,
                         testing::Combine(testing::Values("mimo_basic", "mimo_odd", "mimo_segmented"),
                                          testing::Values(Numerics::w8a8, Numerics::w8a8_bf16_ue8m0)),
                         name_of_case);

INSTANTIATE_TEST_SUITE_P(QuantizedInputs, SameBitsOfRings,
                         testing::Combine(testing::Values("mimo_basic", "mimo_odd", "mimo_segmented"),
                                          testing::Values(Numerics::w8a8, Numerics::w8a8_bf16_ue8m0)),
                         name_of_case);

}  // namespace
}  // namespace millrace
