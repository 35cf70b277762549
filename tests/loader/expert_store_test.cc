#include "loader/expert_store.h"

#include <gmock/gmock.h>

#include <cstring>
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
using testing::IsEmpty;

constexpr std::int64_t width = 3, hidden = 5, experts = 4;
const std::vector<ExpertLayer> layers = {{2, "layers.2.mlp.experts", experts, width, hidden}};

std::vector<std::uint8_t> codes_of(int seed, std::int64_t count = width * hidden) {
  test::Random random(static_cast<std::uint64_t>(seed));
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(count));
  for (auto& code : codes) code = static_cast<std::uint8_t>(random.below(0x7f));
  return codes;
}

test::TensorFile single_experts() {
  test::TensorFile file;
  for (int expert = 0; expert < experts; ++expert)
    for (int part = 0; part < 3; ++part) {
      const char* names[] = {"gate", "up", "down"};
      const std::string name = fmt::format("model.layers.2.mlp.experts.{}.{}_proj.weight", expert, names[part]);
      const std::vector<std::int64_t> shape = {part == 2 ? hidden : width, part == 2 ? width : hidden};
      file.f8(name, shape, codes_of(10 * expert + part)).f32(name + "_scale_inv", {1, 1}, {0.5f});
    }
  return file;
}

class ExpertStoreTest : public testing::Test {
 protected:
  WeightStore& open(const test::TensorFile& file, WeightOptions options = {}) {
    folder_.write("config.json", "{}");
    file.write(folder_.path() / "model.safetensors");
    checkpoint_.emplace(Checkpoint::open(folder_.path()));
    return store_.emplace(*checkpoint_, std::move(options));
  }

  test::TempFolder folder_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<WeightStore> store_;
};

TEST_F(ExpertStoreTest, DequantizesAtFirstUseAndKeeps) {
  ExpertStore source(open(single_experts()), layers);
  EXPECT_THAT(store_->unused(), IsEmpty());
  EXPECT_EQ(source.owned_bytes(), experts * 3u * width * hidden * 2);
  EXPECT_EQ(source.file_bytes(), experts * 3u * (width * hidden + 4));
  const ExpertLease lease = source.acquire(2, 3);
  const ExpertWeights& weights = lease.weights();
  EXPECT_THAT(weights.gate.shape(), ElementsAre(width, hidden));
  EXPECT_THAT(weights.up.shape(), ElementsAre(width, hidden));
  EXPECT_THAT(weights.down.shape(), ElementsAre(hidden, width));
  const Tensor* parts[] = {&weights.gate, &weights.up, &weights.down};
  for (int part = 0; part < 3; ++part) {
    const auto codes = codes_of(30 + part);
    ASSERT_EQ(parts[part]->dtype(), Dtype::bf16);
    for (std::size_t i = 0; i < codes.size(); ++i)
      EXPECT_EQ(parts[part]->as<Bfloat16>()[i], bf16_from_f32(e4m3_to_f32(codes[i]) * 0.5f));
  }
  EXPECT_EQ(source.acquire(2, 3).weights().gate.data(), weights.gate.data());
}

TEST_F(ExpertStoreTest, KeepsCodesInPlace) {
  for (const WeightOptions& options :
       {WeightOptions{.format = WeightFormat::fp8}, WeightOptions{.numerics = Numerics::f32}}) {
    ExpertStore source(open(single_experts(), options), layers);
    EXPECT_EQ(source.owned_bytes(), experts * (3 * sizeof(float) + 2 * width + hidden));  // scales, a mark for each row
    const ExpertLease lease = source.acquire(2, 1);
    const auto codes = codes_of(11);
    EXPECT_EQ(lease.weights().up.dtype(), Dtype::f8_e4m3);
    EXPECT_EQ(std::memcmp(lease.weights().up.data(), codes.data(), codes.size()), 0);
    EXPECT_EQ(lease.weights().up.scales().row(2)[0], 0.5f);
  }
}

TEST_F(ExpertStoreTest, MergedTensorsGiveTheSameExperts) {
  const auto gate_up = test::Random(1).normals(experts * 2 * width * hidden);
  const auto down = test::Random(2).normals(experts * hidden * width);
  for (bool exact : {false, true}) {
    test::TensorFile file;
    if (exact) {
      file.f32("model.layers.2.mlp.experts.gate_up_proj", {experts, 2 * width, hidden}, gate_up);
      file.f32("model.layers.2.mlp.experts.down_proj", {experts, hidden, width}, down);
    } else {
      file.bf16("model.layers.2.mlp.experts.gate_up_proj", {experts, 2 * width, hidden}, gate_up);
      file.bf16("model.layers.2.mlp.experts.down_proj", {experts, hidden, width}, down);
    }
    ExpertStore source(open(file, {.numerics = exact ? Numerics::f32 : Numerics::fast}), layers);
    EXPECT_THAT(store_->unused(), IsEmpty());
    for (int expert = 0; expert < experts; ++expert) {
      const ExpertLease lease = source.acquire(2, expert);
      const auto e = static_cast<std::size_t>(expert);
      const auto at = [&](const Tensor& tensor, std::size_t i) {
        return exact ? tensor.as<float>()[i] : bf16_to_f32(tensor.as<Bfloat16>()[i]);
      };
      const auto want = [&](float value) { return exact ? value : round_to_bf16(value); };
      for (std::size_t i = 0; i < width * hidden; ++i) {
        EXPECT_EQ(at(lease.weights().gate, i), want(gate_up[2 * e * width * hidden + i]));
        EXPECT_EQ(at(lease.weights().up, i), want(gate_up[(2 * e + 1) * width * hidden + i]));
        EXPECT_EQ(at(lease.weights().down, i), want(down[e * width * hidden + i]));
      }
    }
  }
}

// (experts, rows, columns) with the last two dimensions exchanged.
std::vector<float> transposed(const std::vector<float>& values, std::int64_t rows, std::int64_t columns) {
  std::vector<float> out(values.size());
  for (std::int64_t e = 0; e < experts; ++e)
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t column = 0; column < columns; ++column)
        out[static_cast<std::size_t>((e * columns + column) * rows + row)] =
            values[static_cast<std::size_t>((e * rows + row) * columns + column)];
  return out;
}

TEST_F(ExpertStoreTest, MergedTensorsMayBeTransposed) {
  const auto gate_up = test::Random(1).normals(experts * 2 * width * hidden);
  const auto down = test::Random(2).normals(experts * hidden * width);
  for (const Numerics numerics : {Numerics::fast, Numerics::f32}) {
    test::TensorFile file;
    file.f32("model.layers.2.mlp.experts.gate_up_proj", {experts, hidden, 2 * width},
             transposed(gate_up, 2 * width, hidden));
    file.f32("model.layers.2.mlp.experts.down_proj", {experts, width, hidden}, transposed(down, hidden, width));
    ExpertStore source(open(file, {.numerics = numerics}), layers);
    for (std::size_t e = 0; e < experts; ++e) {
      const ExpertLease lease = source.acquire(2, static_cast<int>(e));
      const auto expect = [&](const Tensor& tensor, const std::vector<float>& values, std::size_t first) {
        for (std::size_t i = 0; i < width * hidden; ++i) {
          if (numerics == Numerics::f32) {
            EXPECT_EQ(tensor.as<float>()[i], values[first + i]);
          } else {
            EXPECT_EQ(tensor.as<Bfloat16>()[i], bf16_from_f32(values[first + i]));
          }
        }
      };
      expect(lease.weights().gate, gate_up, 2 * e * width * hidden);
      expect(lease.weights().up, gate_up, (2 * e + 1) * width * hidden);
      expect(lease.weights().down, down, e * width * hidden);
    }
  }
}

TEST_F(ExpertStoreTest, MergedFp8) {
  test::TensorFile file;
  const std::string name = "model.layers.2.mlp.experts.";
  const auto gate_up = codes_of(1, experts * 2 * width * hidden), down = codes_of(2, experts * hidden * width);
  file.f8(name + "gate_up_proj", {experts, 2 * width, hidden}, gate_up);
  file.f32(name + "gate_up_proj_scale_inv", {experts, 1, 1}, {1, 2, 3, 4});
  file.f8(name + "down_proj", {experts, hidden, width}, down);
  file.f32(name + "down_proj_scale_inv", {experts, 1, 1}, {5, 6, 7, 8});
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8}) {
    ExpertStore source(open(file, {.format = format}), layers);
    EXPECT_THAT(store_->unused(), IsEmpty());
    for (std::size_t e = 0; e < experts; ++e) {
      const ExpertLease lease = source.acquire(2, static_cast<int>(e));
      const auto expect = [&](const Tensor& tensor, const std::vector<std::uint8_t>& codes, std::size_t first,
                              float scale) {
        for (std::size_t i = 0; i < width * hidden; ++i) {
          if (format == WeightFormat::fp8) {
            EXPECT_EQ(tensor.as<std::uint8_t>()[i], codes[first + i]);
          } else {
            EXPECT_EQ(tensor.as<Bfloat16>()[i], bf16_from_f32(e4m3_to_f32(codes[first + i]) * scale));
          }
        }
        if (format == WeightFormat::fp8) {
          EXPECT_EQ(tensor.scales().row(0)[0], scale);
        }
      };
      const auto index = static_cast<float>(e);
      expect(lease.weights().gate, gate_up, 2 * e * width * hidden, 1 + index);
      expect(lease.weights().up, gate_up, (2 * e + 1) * width * hidden, 1 + index);
      expect(lease.weights().down, down, e * width * hidden, 5 + index);
    }
  }
}

TEST_F(ExpertStoreTest, PreloadsEverything) {
  const Parallel parallel(2);
  for (const Parallel* threads : {static_cast<const Parallel*>(nullptr), &parallel}) {
    ExpertStore source(open(single_experts(), {.parallel = threads}), layers);
    std::uint64_t last = 0;
    source.preload([&](std::uint64_t done, std::uint64_t total) {
      EXPECT_GT(done, last);
      EXPECT_EQ(total, source.file_bytes());
      last = done;
    });
    EXPECT_EQ(last, source.file_bytes());
    std::filesystem::resize_file(folder_.path() / "model.safetensors", 10);
    for (int expert = 0; expert < experts; ++expert) source.acquire(2, expert);
  }
}

// So that they lie on large pages, of which one expert alone may fill none.
TEST_F(ExpertStoreTest, ResidentExpertsOfALayerLieTogether) {
  const Parallel parallel(2);
  for (WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8}) {
    ExpertStore source(open(single_experts(), {.format = format, .parallel = &parallel}), layers);
    source.preload({});
    const std::byte* begin = nullptr;
    std::ptrdiff_t last = -1;
    for (int expert = 0; expert < experts; ++expert) {
      const ExpertLease lease = source.acquire(2, expert);
      for (const Tensor* part : {&lease.weights().gate, &lease.weights().up, &lease.weights().down}) {
        const auto* data = static_cast<const std::byte*>(part->data());
        if (begin == nullptr) begin = data;
        EXPECT_GT(data - begin, last);
        last = data - begin;
      }
    }
    EXPECT_LT(last, static_cast<std::ptrdiff_t>(source.resident_bytes()));
    const std::vector<std::uint8_t> codes = codes_of(10);
    const Tensor gate = source.acquire(2, 1).weights().gate;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      if (format == WeightFormat::fp8)
        EXPECT_EQ(gate.as<std::uint8_t>()[i], codes[i]);
      else
        EXPECT_EQ(gate.as<Bfloat16>()[i], bf16_from_f32(e4m3_to_f32(codes[i]) * 0.5f));
    }
  }
}

TEST_F(ExpertStoreTest, AFileThatShrankIsAnErrorOfPreloading) {
  const Parallel parallel(2);
  ExpertStore source(open(single_experts(), {.parallel = &parallel}), layers);
  const std::filesystem::path path = folder_.path() / "model.safetensors";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  EXPECT_THAT(
      test::error_of(Errc::io, [&] { source.preload({}); }),
      testing::AllOf(HasSubstr("model.safetensors"), HasSubstr("the file ends within it"), HasSubstr("mlp.experts.")));
}

TEST_F(ExpertStoreTest, ChecksHeadersWhenConstructedAndDataAtFirstUse) {
  test::TensorFile file;
  const std::string name = "model.layers.2.mlp.experts.";
  auto codes = codes_of(1);
  file.f8(name + "0.gate_proj.weight", {width, hidden}, codes).f32(name + "0.gate_proj.weight_scale_inv", {1, 1}, {1});
  file.f8(name + "0.up_proj.weight", {width, hidden}, codes).f32(name + "0.up_proj.weight_scale_inv", {1, 1}, {1});
  codes[2 * width + 1] = 0xff;
  file.f8(name + "0.down_proj.weight", {hidden, width}, codes).f32(name + "0.down_proj.weight_scale_inv", {1, 1}, {1});
  for (WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8}) {
    WeightStore& store = open(file, {.format = format});
    EXPECT_THAT(test::error_of(Errc::not_found, [&] { ExpertStore(store, layers); }),
                HasSubstr(name + "1.gate_proj.weight"));
    ExpertStore source(store, {{2, "layers.2.mlp.experts", 1, width, hidden}});
    for (int attempt = 0; attempt < 2; ++attempt) {
      const std::string message = test::error_of(Errc::bad_file, [&] { source.acquire(2, 0); });
      EXPECT_THAT(message, HasSubstr("0.down_proj.weight: NaN code at row 2, column 1"));
    }
    for (auto [layer, expert] : {std::pair(2, 1), {2, -1}, {1, 0}, {3, 0}, {-1, 0}})
      test::error_of(Errc::bad_argument, [&, layer = layer, expert = expert] { source.acquire(layer, expert); });
    EXPECT_THAT(test::error_of(Errc::bad_file,
                               [&] {
                                 ExpertStore(store, {{2, "layers.2.mlp.experts", 1, hidden, width}});
                               }),
                HasSubstr("[3, 5]"));
  }
}

TEST_F(ExpertStoreTest, TriesAgainAfterAReadFailed) {
  ExpertStore source(open(single_experts(), {.format = WeightFormat::fp8}), layers);
  const auto path = folder_.path() / "model.safetensors";
  const auto size = std::filesystem::file_size(path);
  const std::string contents = [&] {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  std::filesystem::resize_file(path, size / 2);
  const std::string message = test::error_of(Errc::io, [&] { source.acquire(2, 0); });
  EXPECT_THAT(message, HasSubstr("model.safetensors"));
  EXPECT_THAT(message, HasSubstr("model.layers.2.mlp.experts.0"));
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << contents;
  const ExpertLease lease = source.acquire(2, 0);
  EXPECT_EQ(lease.weights().gate.as<std::uint8_t>()[7], codes_of(0)[7]);
}

}  // namespace
}  // namespace millrace
