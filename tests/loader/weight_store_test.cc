#include "loader/weight_store.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "runtime/float8.h"
#include "runtime/parallel.h"
#include "tests/support/errors.h"
#include "tests/support/random.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

const std::vector<float> values = {1.0f, -1.00390625f, 3.0f, 1.001f, 0.1f, 100.3f};  // two need rounding

// A folder with the tensors of a test and a store over it.
class WeightStoreTest : public testing::Test {
 protected:
  WeightStore& open(WeightOptions options = {}) {
    folder_.write("config.json", "{}");
    tensors_.write(folder_.path() / "model.safetensors");
    store_.reset();
    checkpoint_.emplace(Checkpoint::open(folder_.path()));
    return store_.emplace(*checkpoint_, std::move(options));
  }
  // (rows, columns) of codes with scales of `scale_rows` rows.
  void add_f8(const std::string& name, std::int64_t rows, std::int64_t columns, std::int64_t scale_rows) {
    test::Random random(7);
    codes_.resize(static_cast<std::size_t>(rows * columns));
    for (auto& code : codes_) code = static_cast<std::uint8_t>(random.below(0x7f) + 128 * random.below(2));
    scales_ = random.normals(scale_rows * ((columns + 127) / 128));
    tensors_.f8(name, {rows, columns}, codes_);
    tensors_.f32(name + "_scale_inv", {scale_rows, (columns + 127) / 128}, scales_);
  }
  bool is_mapped(const void* data) const {
    const MappedFile& file = checkpoint_->files()[0]->file();
    return data >= file.data() && data < file.data() + file.bytes();
  }

  test::TempFolder folder_;
  test::TensorFile tensors_;
  std::vector<std::uint8_t> codes_;
  std::vector<float> scales_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<WeightStore> store_;
};

std::vector<float> rounded(std::vector<float> list) {
  for (float& value : list) value = round_to_bf16(value);
  return list;
}

constexpr Numerics all_numerics[] = {Numerics::fast, Numerics::hf, Numerics::f32, Numerics::w8a8, Numerics::w8a8_bf16};

bool rounds(Numerics numerics) {
  return numerics == Numerics::hf || numerics == Numerics::w8a8_bf16;
}

TEST_F(WeightStoreTest, SketchesArePlannedAndMadeOnce) {
  test::Random random(3);
  tensors_.bf16("lm_head.weight", {300, 70}, random.normals(300 * 70));
  const Parallel parallel(2);
  for (const Parallel* threads : {static_cast<const Parallel*>(nullptr), &parallel}) {
    WeightStore& store = open({.parallel = threads, .resident = true, .headers_only = true});
    store.linear("lm_head.weight", 300, 70);
    const LinearSketch planned = store.sketch("lm_head.weight");
    EXPECT_EQ(planned.outputs, 300);
    EXPECT_EQ(planned.bits, nullptr);
    const auto footprints = store.footprints();
    EXPECT_EQ(footprints.at("mtp.sketch of lm_head.weight"), Buffer::footprint(sketch_bytes(300, 70)));
    const std::uint64_t bytes = store.owned_bytes();
    store.start_loading();
    store.linear("lm_head.weight", 300, 70);
    const LinearSketch sketch = store.sketch("lm_head.weight");
    EXPECT_EQ(store.sketch("lm_head.weight").bits, sketch.bits);
    EXPECT_NE(sketch.bits, nullptr);
    EXPECT_GT(sketch.scales[299], 0);
    EXPECT_EQ(store.footprints(), footprints);
    EXPECT_EQ(store.owned_bytes(), bytes);
  }
}

TEST_F(WeightStoreTest, Vectors) {
  tensors_.f32("model.f32", {6}, values).bf16("model.bf16", {6}, values);
  tensors_.add<std::uint16_t>("model.f16", Dtype::f16, {2}, {0x3c00, 0x3c01});
  for (Numerics numerics : all_numerics) {
    WeightStore& store = open({.numerics = numerics});
    EXPECT_EQ(store.vector("f32", 6), rounds(numerics) ? rounded(values) : values);
    EXPECT_EQ(store.vector("f32", 6, true), values);
    EXPECT_EQ(store.vector("bf16", 6), rounded(values));
    EXPECT_EQ(store.vector("f16", 2)[1], rounds(numerics) ? 1.0f : 1.0f + 0x1p-10f);
  }
}

TEST_F(WeightStoreTest, VectorsOfNoNumbers) {
  const float inf = std::numeric_limits<float>::infinity();
  tensors_.f32("nan", {2}, {1, std::nanf("")}).f32("inf", {2}, {-inf, 1}).f8("codes", {1}, {1});
  WeightStore& store = open();
  EXPECT_THAT(test::error_of(Errc::bad_file, [&] { store.vector("nan", 2); }), HasSubstr("element 1 is nan"));
  EXPECT_EQ(store.vector("inf", 2)[0], -inf);
  EXPECT_THAT(test::error_of(Errc::bad_file, [&] { store.vector("inf", 2, true); }), HasSubstr("-inf"));
  EXPECT_THAT(test::error_of(Errc::unsupported, [&] { store.vector("codes", 1); }), HasSubstr("F8_E4M3"));
}

TEST_F(WeightStoreTest, DequantizesTheSameOnAnyNumberOfThreads) {
  add_f8("model.w", 768, 300, 8);
  for (int threads : {0, 1, 3}) {
    std::optional<Parallel> parallel;
    if (threads > 0) parallel.emplace(threads);
    WeightStore& store = open({.format = WeightFormat::bf16, .parallel = parallel ? &*parallel : nullptr});
    const Tensor weight = store.linear("w", 768, 300, 4);
    ASSERT_EQ(weight.dtype(), Dtype::bf16);
    ASSERT_FALSE(weight.scales());
    for (std::size_t row = 0; row < 768; ++row)
      for (std::size_t column = 0; column < 300; ++column) {
        const float scale = scales_[(row / 192 * 2 + row % 192 / 128) * 3 + column / 128];
        ASSERT_EQ(weight.as<Bfloat16>()[row * 300 + column],
                  bf16_from_f32(e4m3_to_f32(codes_[row * 300 + column]) * scale));
      }
    EXPECT_EQ(store.owned_bytes(), 768u * 300 * 2);
  }
}

TEST_F(WeightStoreTest, KeepsCodesInPlace) {
  add_f8("model.w", 200, 130, 2);
  for (const WeightOptions& options :
       {WeightOptions{.format = WeightFormat::fp8}, WeightOptions{.numerics = Numerics::f32},
        WeightOptions{.numerics = Numerics::w8a8}, WeightOptions{.numerics = Numerics::w8a8_bf16}}) {
    WeightStore& store = open(options);
    const Tensor weight = store.linear("w", 200, 130);
    EXPECT_EQ(weight.dtype(), Dtype::f8_e4m3);
    EXPECT_TRUE(is_mapped(weight.data()));
    EXPECT_EQ(std::memcmp(weight.data(), codes_.data(), codes_.size()), 0);
    EXPECT_EQ(weight.scales().columns, 2);
    EXPECT_EQ(weight.scales().row(199)[1], scales_[3]);
  }
}

TEST_F(WeightStoreTest, LinearWeightsOfOtherTypes) {
  tensors_.bf16("bf16", {2, 3}, values).f32("f32", {3, 2}, values);
  tensors_.add<std::uint16_t>("f16", Dtype::f16, {1, 2}, {0x3c00, 0x3c01});
  for (Numerics numerics : all_numerics) {
    const bool exact = numerics == Numerics::f32 || numerics == Numerics::w8a8;
    WeightStore& store = open({.numerics = numerics});
    const Tensor bf16 = store.linear("bf16", 2, 3), f32 = store.linear("f32", 3, 2), f16 = store.linear("f16", 1, 2);
    EXPECT_EQ(bf16.dtype(), Dtype::bf16);
    EXPECT_TRUE(is_mapped(bf16.data()));
    EXPECT_EQ(f32.dtype(), exact ? Dtype::f32 : Dtype::bf16);
    EXPECT_EQ(is_mapped(f32.data()), exact);
    EXPECT_EQ(f16.dtype(), exact ? Dtype::f32 : Dtype::bf16);
    if (exact) {
      EXPECT_EQ(f16.as<float>()[1], 1.0f + 0x1p-10f);
      EXPECT_EQ(std::memcmp(f32.data(), values.data(), 24), 0);
    } else {
      EXPECT_EQ(f16.as<Bfloat16>()[1], 0x3f80);
      for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(f32.as<Bfloat16>()[i], bf16_from_f32(values[i]));
    }
  }
}

// One byte before the others puts them at odd addresses, where they must not be used in place.
TEST_F(WeightStoreTest, UnalignedTensorsAreCopied) {
  folder_.write("config.json", "{}");
  const std::vector<TensorHeader> headers = {
      {"pad", Dtype::u8, {1}}, {"f32", Dtype::f32, {3, 2}}, {"bf16", Dtype::bf16, {3, 2}}};
  SafetensorsWriter writer(folder_.path() / "model.safetensors", {}, headers);
  const std::vector<Bfloat16> halves = {1, 2, 3, 4, 5, 6};
  writer.write(std::as_bytes(std::span("x", 1)));
  writer.write(std::as_bytes(std::span(values)));
  writer.write(std::as_bytes(std::span(halves)));
  writer.finish();
  checkpoint_.emplace(Checkpoint::open(folder_.path()));
  WeightStore store(*checkpoint_, {.numerics = Numerics::f32});
  for (const Tensor& tensor : {store.linear("f32", 3, 2), store.router("f32", 3, 2), store.embedding("f32", 3, 2)}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data()) % 4, 0u);
    EXPECT_EQ(std::memcmp(tensor.data(), values.data(), 24), 0);
  }
  for (const Tensor& tensor : {store.linear("bf16", 3, 2), store.embedding("bf16", 3, 2)}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data()) % 2, 0u);
    EXPECT_EQ(std::memcmp(tensor.data(), halves.data(), 12), 0);
  }
  EXPECT_EQ(store.owned_bytes(), 3u * 24 + 2 * 12);
}

TEST_F(WeightStoreTest, RouterAndEmbedding) {
  tensors_.f32("f32", {2, 3}, values).bf16("bf16", {2, 3}, values);
  for (Numerics numerics : all_numerics) {
    WeightStore& store = open({.numerics = numerics});
    const Tensor exact = store.router("f32", 2, 3), half = store.router("bf16", 2, 3);
    const std::vector<float> want = rounds(numerics) ? rounded(values) : values;
    ASSERT_EQ(exact.dtype(), Dtype::f32);
    ASSERT_EQ(half.dtype(), Dtype::f32);
    EXPECT_EQ(std::vector<float>(exact.as<float>(), exact.as<float>() + 6), want);
    EXPECT_EQ(std::vector<float>(half.as<float>(), half.as<float>() + 6), rounded(values));
    EXPECT_EQ(is_mapped(exact.data()), !rounds(numerics));
    EXPECT_TRUE(is_mapped(store.embedding("bf16", 2, 3).data()));
    EXPECT_EQ(store.embedding("f32", 2, 3).dtype(), Dtype::f32);
  }
}

TEST_F(WeightStoreTest, RefusesWhatWasNotDemanded) {
  add_f8("model.layers.0.w.weight", 16, 32, 1);
  tensors_.bf16("model.b.weight", {2, 3}, values).f32("model.b.weight_scale_inv", {1, 1}, {1});
  tensors_.f8("model.bare.weight", {1, 1}, {1});
  tensors_.add<std::int32_t>("model.ids", Dtype::i32, {1, 1}, {1});
  tensors_.f8("model.odd.weight", {1, 1}, {1}).add<std::int32_t>("model.odd.weight_scale_inv", Dtype::i32, {1, 1}, {1});
  WeightStore& store = open();
  const auto refusal = [&](Errc code, const char* name, std::int64_t out, std::int64_t in) {
    return test::error_of(code, [&] { store.linear(name, out, in); });
  };
  EXPECT_THAT(refusal(Errc::not_found, "layers.1.mlp.experts.2.down_proj.weight", 1, 1),
              HasSubstr("model.layers.1.mlp.experts.2.down_proj.weight"));
  EXPECT_THAT(refusal(Errc::not_found, "lm_head.weight", 1, 1), HasSubstr(" lm_head.weight"));
  const std::string shape = refusal(Errc::bad_file, "layers.0.w.weight", 32, 16);
  for (const char* word : {"model.layers.0.w.weight", "[16, 32]", "[32, 16]"}) EXPECT_THAT(shape, HasSubstr(word));
  EXPECT_THAT(refusal(Errc::bad_file, "b.weight", 2, 3), HasSubstr("model.b.weight_scale_inv"));
  EXPECT_THAT(refusal(Errc::bad_file, "bare.weight", 1, 1), HasSubstr("model.bare.weight_scale_inv"));
  EXPECT_THAT(refusal(Errc::unsupported, "ids", 1, 1), HasSubstr("I32"));
  EXPECT_THAT(refusal(Errc::unsupported, "odd.weight", 1, 1), HasSubstr("model.odd.weight_scale_inv"));
}

TEST_F(WeightStoreTest, AskedForTwiceIsTheSameMemory) {
  add_f8("model.w.weight", 256, 200, 2);
  tensors_.bf16("model.table.weight", {3, 2}, values);
  WeightStore& store = open({.resident = true});
  const void* weight = store.linear("w.weight", 256, 200).data();
  const void* table = store.embedding("table.weight", 3, 2).data();
  const std::uint64_t taken = store.owned_bytes();
  EXPECT_EQ(store.linear("w.weight", 256, 200).data(), weight);
  EXPECT_EQ(store.embedding("table.weight", 3, 2).data(), table);
  EXPECT_EQ(store.owned_bytes(), taken);
  test::error_of(Errc::bad_file, [&] { store.embedding("table.weight", 2, 3); });
}

TEST(MtpLayerOf, ReadsTheNumber) {
  EXPECT_EQ(mtp_layer_of("mtp.layers.2.eh_proj.weight"), 2);
  EXPECT_EQ(mtp_layer_of("mtp.layers.0."), 0);
  for (const char* other : {"layers.2.mlp", "mtp.layers.", "mtp.layers.2", "mtp.layers.-1.x", "mtp.layers.x.y",
                            "mtp.layers.64.x", "mtp.layers.2147483647.x", "mtp.layers.99999999999.x"})
    EXPECT_EQ(mtp_layer_of(other), -1) << other;
}

TEST_F(WeightStoreTest, ReportsWhatNobodyAskedForAndProgress) {
  add_f8("model.layers.0.w", 16, 32, 1);
  tensors_.f32("model.norm.v", {6}, values).f32("other.tower", {6}, values).f32("model.mtp.x", {6}, values);
  tensors_.f32("model.mtp.layers.0.x", {6}, values).f32("model.mtp.layers.1.x", {6}, values);
  tensors_.f32("model.layers.0.mlp.experts.0.gate_proj.weight", {6, 1}, values);
  std::vector<std::uint64_t> done;
  const auto progress = [&](std::uint64_t now, std::uint64_t total) {
    done.push_back(now);
    EXPECT_EQ(total, 16u * 32 + 4 + 24 + 24);  // the weight, its scale, v, one prediction layer
  };
  WeightStore& store = open({.progress = progress, .mtp_layers = 1});
  EXPECT_TRUE(store.has("layers.0.w"));
  EXPECT_FALSE(store.has("model.layers.0.w"));
  store.linear("layers.0.w", 16, 32);
  store.vector("norm.v", 6);
  EXPECT_THAT(done, ElementsAre(16 * 32 + 4, 16 * 32 + 4 + 24));
  store.find_linear("layers.0.mlp.experts.0.gate_proj.weight", 6, 1);
  EXPECT_THAT(done, SizeIs(2));
  EXPECT_THAT(store.unused(),
              ElementsAre("model.mtp.layers.0.x", "model.mtp.layers.1.x", "model.mtp.x", "other.tower"));
}

// The plan counts what loading takes, and reads nothing: a NaN code goes unnoticed.
TEST_F(WeightStoreTest, HeadersOnlyPlansWithoutReading) {
  add_f8("model.w.weight", 256, 200, 2);
  tensors_.f32("model.norm.weight", {6}, values);
  open();
  store_->linear("w.weight", 256, 200);
  const std::uint64_t taken = store_->owned_bytes();
  codes_.assign(codes_.size(), 0x7f);
  tensors_ = {};
  tensors_.f8("model.w.weight", {256, 200}, codes_);
  tensors_.f32("model.w.weight_scale_inv", {2, 2}, scales_);
  tensors_.f32("model.norm.weight", {6}, values);
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8}) {
    WeightStore& store = open({.format = format, .headers_only = true});
    const Tensor weight = store.linear("w.weight", 256, 200);
    EXPECT_EQ(weight.dtype(), format == WeightFormat::bf16 ? Dtype::bf16 : Dtype::f8_e4m3);
    EXPECT_EQ(static_cast<bool>(weight.scales()), format == WeightFormat::fp8);
    EXPECT_THAT(store.vector("norm.weight", 6), SizeIs(6));
    EXPECT_THAT(store.unused(), SizeIs(0));
    EXPECT_EQ(store.owned_bytes(), format == WeightFormat::bf16 ? taken : 4 * sizeof(float) + 256);  // scales and marks
    EXPECT_THROW(store.linear("w.weight", 256, 201), Error);
  }
}

TEST_F(WeightStoreTest, ScalesThatAreAllOneAreToldOnce) {
  const std::vector<std::uint8_t> codes(160 * 8, 0x38);
  tensors_.f8("model.a.weight", {160, 8}, codes).f32("model.a.weight_scale_inv", {2, 1}, {1.0f, 1.0f});
  tensors_.f8("model.b.weight", {160, 8}, codes).f32("model.b.weight_scale_inv", {2, 1}, {1.0f, 0.5f});
  tensors_.f8("model.c.weight", {160, 8}, codes).f32("model.c.weight_scale_inv", {2, 1}, {1.0f, 1.0f});
  for (WeightFormat format : {WeightFormat::fp8, WeightFormat::bf16}) {
    WeightStore& store = open({.format = format});
    store.linear("b.weight", 160, 8);
    EXPECT_THAT(store.warnings(), testing::IsEmpty());
    store.linear("a.weight", 160, 8);
    store.linear("c.weight", 160, 8);
    EXPECT_THAT(store.warnings(),
                ElementsAre(HasSubstr("every scale of 2 FP8 weights, the first of them model.a.weight, is 1")));
  }
}

}  // namespace
}  // namespace millrace
