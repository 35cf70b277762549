#include "model/qkv_weights.h"

#include <gmock/gmock.h>

#include <optional>

#include "loader/weight_store.h"
#include "runtime/float8.h"
#include "tests/support/errors.h"
#include "tests/support/random.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t hidden = 136;  // two columns of blocks, the second one partial

LayerSpec layer_of(std::int64_t heads, std::int64_t kv_heads, std::int64_t qk_dim, std::int64_t v_dim) {
  LayerSpec layer;
  layer.heads = heads;
  layer.kv_heads = kv_heads;
  layer.qk_dim = qk_dim;
  layer.v_dim = v_dim;
  return layer;
}

// The attention of MiMo-V2.5: a full layer, a sliding layer and, of the same kind, a multi-token-prediction layer.
ModelConfig published_config() {
  ModelConfig config;
  config.hidden = hidden;
  config.layers = {layer_of(64, 4, 192, 128), layer_of(64, 8, 192, 128)};
  config.mtp_layer = config.layers[1];
  config.qkv_chunks = 4;
  return config;
}

// A fused weight and, by the formula, what each of its rows is worth.
struct Fused {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<float> values;  // code * scale
  std::int64_t rows, scale_rows;

  Fused(std::int64_t row_count, std::int64_t chunks, std::uint64_t seed) : rows(row_count) {
    test::Random random(seed);
    const std::int64_t chunk = rows / chunks, grid = (chunk + 127) / 128;
    scale_rows = chunks * grid;
    for (std::int64_t i = 0; i < scale_rows * 2; ++i) scales.push_back(random.uniform(0.001f, 0.01f));
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t column = 0; column < hidden; ++column) {
        codes.push_back(static_cast<std::uint8_t>(random.below(0x7f) + 128 * random.below(2)));
        const std::int64_t grid_row = row / chunk * grid + row % chunk / 128;
        values.push_back(e4m3_to_f32(codes.back()) * scales[static_cast<std::size_t>(2 * grid_row + column / 128)]);
      }
  }

  void add_to(test::TensorFile& file, const std::string& name) const {
    file.f8(name, {rows, hidden}, codes).f32(name + "_scale_inv", {scale_rows, 2}, scales);
  }

  // Rows of one projection: of every chunk those from `first` on, `count` of them.
  std::vector<float> part(std::int64_t chunks, std::int64_t first, std::int64_t count) const {
    std::vector<float> picked;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      const auto begin = values.begin() + (chunk * rows / chunks + first) * hidden;
      picked.insert(picked.end(), begin, begin + count * hidden);
    }
    return picked;
  }
};

std::vector<Bfloat16> dequantized(const Tensor& tensor) {
  if (tensor.dtype() == Dtype::bf16) return {tensor.as<Bfloat16>(), tensor.as<Bfloat16>() + tensor.elements()};
  std::vector<Bfloat16> out;
  for (std::int64_t row = 0; row < tensor.dim(0); ++row)
    for (std::int64_t column = 0; column < tensor.dim(1); ++column)
      out.push_back(bf16_from_f32(e4m3_to_f32(tensor.as<std::uint8_t>()[row * tensor.dim(1) + column]) *
                                  tensor.scales().row(row)[column / 128]));
  return out;
}

class QkvWeights : public testing::Test {
 protected:
  WeightStore& open(const test::TensorFile& tensors, WeightOptions options = {}) {
    tensors.write(folder_.path() / "a.safetensors");
    checkpoint_.emplace(Checkpoint::open(folder_.path() / "a.safetensors"));
    return store_.emplace(*checkpoint_, std::move(options));
  }

  // All three projections of a layer, wherever its weights lie, against `fused`.
  void expect_parts(const ModelConfig& config, const std::string& name, const LayerSpec& layer, const Fused& fused) {
    const std::int64_t chunks = 4, q = layer.heads * layer.qk_dim / chunks, k = layer.kv_heads * layer.qk_dim / chunks,
                       v = layer.kv_heads * layer.v_dim / chunks;
    const auto check = [&](Projection which, std::int64_t first, std::int64_t count) {
      const Tensor weight = load_projection(*store_, config, name, layer, which).weight;
      EXPECT_THAT(weight.shape(), ElementsAre(chunks * count, hidden));
      EXPECT_EQ(dequantized(weight), test::to_bf16(fused.part(chunks, first, count))) << name << " " << first;
    };
    check(Projection::q, 0, q);
    check(Projection::k, q, k);
    check(Projection::v, q + k, v);
  }

  test::TempFolder folder_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<WeightStore> store_;
};

// 13568 rows with 108 rows of scales, and 14848 with 116, where one grid over all rows would have 116 as well.
TEST_F(QkvWeights, ChunksOfThePublishedSizes) {
  const ModelConfig config = published_config();
  const Fused full(13568, 4, 1), sliding(14848, 4, 2), mtp(14848, 4, 3);
  ASSERT_EQ(full.scale_rows, 108);
  ASSERT_EQ(sliding.scale_rows, 116);
  test::TensorFile tensors;
  full.add_to(tensors, "model.layers.0.self_attn.qkv_proj.weight");
  sliding.add_to(tensors, "model.layers.1.self_attn.qkv_proj.weight");
  mtp.add_to(tensors, "model.mtp.layers.0.self_attn.qkv_proj.weight");
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8}) {
    open(tensors, {.format = format});
    expect_parts(config, "layers.0.self_attn", config.layers[0], full);
    expect_parts(config, "layers.1.self_attn", config.layers[1], sliding);
    expect_parts(config, "mtp.layers.0.self_attn", config.mtp_layer, mtp);
    EXPECT_THAT(store_->unused(), ElementsAre());
  }
}

TEST_F(QkvWeights, ChunksWithoutScales) {
  const ModelConfig config = published_config();
  const Fused sliding(14848, 4, 4);
  test::TensorFile tensors;
  tensors.bf16("layers.1.self_attn.qkv_proj.weight", {14848, hidden}, sliding.values);
  open(tensors);
  expect_parts(config, "layers.1.self_attn", config.layers[1], sliding);
}

// Ids of rows as biases, so that it is seen where each comes from.
TEST_F(QkvWeights, BiasesLieAsTheRowsDo) {
  ModelConfig config = published_config();
  config.qkv_bias = true;
  const Fused full(13568, 4, 5);
  std::vector<float> ids(13568);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<float>(i);
  test::TensorFile tensors;
  full.add_to(tensors, "layers.0.self_attn.qkv_proj.weight");
  tensors.f32("layers.0.self_attn.qkv_proj.bias", {13568}, ids);
  open(tensors);
  const auto bias = load_projection(*store_, config, "layers.0.self_attn", config.layers[0], Projection::k).bias;
  ASSERT_EQ(bias.size(), 768u);
  EXPECT_EQ(bias[0], 3072);
  EXPECT_EQ(bias[191], 3072 + 191);
  EXPECT_EQ(bias[192], 3392 + 3072);
  EXPECT_EQ(bias[767], 3 * 3392 + 3072 + 191);
}

// The grid of a full layer tells another number of chunks than its kv heads, and decides for all layers.
TEST_F(QkvWeights, GridsOfTheFullLayersCountTheChunks) {
  ModelConfig config = published_config();
  config.layers[0].kv_heads = config.qkv_chunks = 8;
  const std::int64_t rows = 64 * 192 + 8 * 320;
  const Fused full(rows, 8, 6), sliding(rows, 8, 7);
  EXPECT_EQ(full.scale_rows, 8 * 15);
  test::TensorFile tensors;
  full.add_to(tensors, "layers.0.self_attn.qkv_proj.weight");
  sliding.add_to(tensors, "layers.1.self_attn.qkv_proj.weight");
  open(tensors);
  EXPECT_EQ(qkv_chunks(*checkpoint_, config), 8);
  config.qkv_chunks = 2;
  EXPECT_EQ(qkv_chunks(*checkpoint_, config), 8);
}

TEST_F(QkvWeights, RefusesToGuess) {
  const ModelConfig config = published_config();
  const auto refusal = [&](const test::TensorFile& tensors, std::size_t layer) {
    open(tensors);
    const std::string name = fmt::format("layers.{}.self_attn", layer);
    return test::error_of(Errc::bad_file,
                          [&] { load_projection(*store_, config, name, config.layers[layer], Projection::q); });
  };
  test::TensorFile one_grid;
  Fused(13568, 1, 8).add_to(one_grid, "model.layers.0.self_attn.qkv_proj.weight");
  const std::string message = refusal(one_grid, 0);
  for (const char* words : {"model.layers.0.self_attn.qkv_proj.weight", "[106, 2]", "3392 rows", "108 rows of scales"})
    EXPECT_THAT(message, HasSubstr(words));

  test::TensorFile both;
  both.bf16("layers.0.self_attn.qkv_proj.weight", {1, 1}, {0}).bf16("layers.0.self_attn.q_proj.weight", {1, 1}, {0});
  EXPECT_THAT(refusal(both, 0), HasSubstr("q_proj.weight are there"));

  const Fused whole(13568, 4, 9);
  test::TensorFile unscaled;
  unscaled.f8("model.layers.0.self_attn.qkv_proj.weight", {13568, hidden}, whole.codes);
  EXPECT_THAT(refusal(unscaled, 0), HasSubstr("model.layers.0.self_attn.qkv_proj.weight_scale_inv is missing"));

  Fused damaged(13568, 4, 10);
  damaged.codes[static_cast<std::size_t>((3392 + 7) * hidden + 5)] = 0x7f;  // of the second chunk
  test::TensorFile nan;
  damaged.add_to(nan, "model.layers.0.self_attn.qkv_proj.weight");
  EXPECT_THAT(refusal(nan, 0), HasSubstr("NaN code at row 3399, column 5"));

  test::TensorFile narrow;
  narrow.bf16("model.layers.1.self_attn.qkv_proj.weight", {13568, hidden}, whole.values);
  EXPECT_THAT(refusal(narrow, 1), HasSubstr("[14848, 136]"));
}

}  // namespace
}  // namespace millrace
