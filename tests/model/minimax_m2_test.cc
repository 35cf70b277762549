// MiniMax-M2 folders as others than its makers publish them: renamed, spelled differently, stored differently.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "loader/checkpoint.h"
#include "loader/convert.h"
#include "model/engine.h"
#include "model/session.h"
#include "runtime/float16.h"
#include "tests/model/config_text.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string models = test::golden_dir() + "/models/";

// A tensor of the original; may rename it, give it another form, or drop it with an empty name.
struct Stored {
  std::string name;
  Dtype dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> data;
};
using Change = std::function<void(Stored&)>;

// A copy of the model `name` with a changed config.json and changed tensors.
struct Folder : test::TempFolder {
  explicit Folder(const std::string& name, const char* changes = "{}", const Change& change = {}) {
    write("config.json", changed_config(name, changes));
    const SafetensorsFile original(models + name + "/model.safetensors");
    test::TensorFile file;
    for (const TensorEntry& entry : original.entries()) {
      const auto data = original.read(entry);
      Stored stored = {entry.name, entry.dtype, entry.shape, {data.begin(), data.end()}};
      if (change) change(stored);
      if (!stored.name.empty()) file.add(stored.name, stored.dtype, stored.shape, stored.data);
    }
    file.write(path() / "model.safetensors");
  }
  std::string refusal(Errc code) const {
    return test::error_of(code, [&] { Engine::open(path(), {.threads = 1}); });
  }
};

void replace(std::string& name, std::string_view from, std::string_view to) {
  if (const std::size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
}

std::vector<float> logits(const std::filesystem::path& folder, Numerics numerics = Numerics::f32) {
  const auto engine = Engine::open(folder, {.threads = 1, .numerics = numerics});
  Session session(*engine);
  const auto values = session.forward(std::vector<std::int32_t>{5, 17, 140, 3, 3, 90, 61});
  return {values.begin(), values.end()};
}

TEST(MinimaxM2, AWrongNameIsSeenByTheTensors) {
  for (const char* names : {R"({"model_type": "mixtral"})", R"({"model_type": "mixtral", "architectures": null})",
                            R"({"model_type": "minimax", "architectures": ["MixtralForCausalLM"]})",
                            R"({"model_type": null, "architectures": null})"}) {
    const Folder folder("minimax-odd", names);
    const auto engine = Engine::open(folder.path(), {.threads = 1});
    EXPECT_EQ(engine->config().family, "minimax_m2");
    EXPECT_THAT(engine->warnings(),
                ElementsAre(AllOf(HasSubstr("config.json"), HasSubstr("tensors"), HasSubstr("minimax_m2"))))
        << names;
    test::expect_same_bits(logits(folder.path()), logits(models + "minimax-odd"), names);
  }
  EXPECT_THAT(Engine::open(models + "minimax-odd", {.threads = 1})->warnings(), IsEmpty());
}

TEST(MinimaxM2, OtherModelsAreNotTakenForIt) {
  for (const char* names : {R"({"model_type": "minimax_m3", "architectures": ["MiniMaxM3ForCausalLM"]})",
                            R"({"model_type": "minimax_m3_text"})", R"({"architectures": ["MiniMaxM3ForCausalLM"]})"})
    EXPECT_THAT(Folder("minimax-odd", names).refusal(Errc::bad_config), HasSubstr("is not known")) << names;
  const auto without = [](const char* part) {
    return Folder("minimax-odd", R"({"model_type": "mixtral"})",
                  [part](Stored& stored) {
                    if (stored.name.find(part) != std::string::npos) stored.name.clear();
                  })
        .refusal(Errc::bad_config);
  };
  EXPECT_THAT(without("q_norm"), HasSubstr("\"mixtral\" is not known"));
  EXPECT_THAT(without(".w1."), HasSubstr("\"mixtral\" is not known"));
}

TEST(MinimaxM2, NormsOfOneHeadAreRefused) {
  const Folder folder("minimax-odd", "{}", [](Stored& stored) {
    if (!stored.name.ends_with("q_norm.weight")) return;
    stored.shape = {40};
    stored.data.resize(stored.data.size() / 6);
  });
  EXPECT_THAT(folder.refusal(Errc::bad_file), AllOf(HasSubstr("q_norm.weight"), HasSubstr("[40]"), HasSubstr("[240]")));
}

TEST(MinimaxM2, NormsThatTheConfigurationDeniesAreRefused) {
  EXPECT_THAT(Folder("minimax-odd", R"({"use_qk_norm": false})").refusal(Errc::bad_config),
              AllOf(HasSubstr("QK norm"), HasSubstr("model.layers.0.self_attn.q_norm.weight")));
}

TEST(MinimaxM2, AMissingExpertIsNamedAsTheFilesSpell) {
  const Folder folder("minimax-odd", "{}", [](Stored& stored) {
    if (stored.name.find("layers.1.block_sparse_moe.experts.4.w3") != std::string::npos) stored.name.clear();
  });
  EXPECT_THAT(folder.refusal(Errc::not_found),
              HasSubstr("model.layers.1.block_sparse_moe.experts.4.w3.weight is missing"));
}

TEST(MinimaxM2, TheCorrectionBiasMayStandInThreePlaces) {
  const auto want = logits(models + "minimax-odd");
  for (const char* place : {"mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias"}) {
    const Folder folder("minimax-odd", "{}", [place](Stored& stored) {
      replace(stored.name, "block_sparse_moe.e_score_correction_bias", place);
      replace(stored.name, "block_sparse_moe.gate", "mlp.gate");
    });
    test::expect_same_bits(logits(folder.path()), want, place);
  }
}

TEST(MinimaxM2, NamesMayLackThePrefix) {
  const Folder folder("minimax-t5", "{}", [](Stored& stored) { replace(stored.name, "model.", ""); });
  test::expect_same_bits(logits(folder.path()), logits(models + "minimax-t5"), "without prefix");
}

// Sixteenths, which are exact in all three types.
std::vector<std::byte> sixteenths(const std::vector<float>& values, Dtype dtype) {
  std::vector<std::byte> data;
  const auto append = [&data](const auto& element) {
    const auto bytes = std::as_bytes(std::span(&element, 1));
    data.insert(data.end(), bytes.begin(), bytes.end());
  };
  for (const float value : values) {
    const float whole = std::round(value * 16) / 16;
    if (dtype == Dtype::f32) append(whole);
    if (dtype == Dtype::bf16) append(bf16_from_f32(whole));
    std::uint16_t half = 0;
    while (dtype == Dtype::f16 && f16_to_f32(half) != whole) ++half;
    if (dtype == Dtype::f16) append(half);
  }
  return data;
}

TEST(MinimaxM2, TheGateMayBeStoredNarrower) {
  const auto gate_in = [](Dtype dtype) {
    return Folder("minimax-odd", "{}", [dtype](Stored& stored) {
      if (!stored.name.ends_with("gate.weight")) return;
      std::vector<float> values(stored.data.size() / static_cast<std::size_t>(size_of(stored.dtype)));
      convert_to_f32(stored.dtype, stored.data.data(), std::ssize(values), values.data());
      stored.data = sixteenths(values, dtype);
      stored.dtype = dtype;
    });
  };
  const auto want = logits(gate_in(Dtype::f32).path());
  for (Dtype dtype : {Dtype::bf16, Dtype::f16}) test::expect_same_bits(logits(gate_in(dtype).path()), want, "gate");
}

TEST(MinimaxM2, AnInfiniteCorrectionBiasIsRefused) {
  const Folder folder("minimax-odd", "{}", [](Stored& stored) {
    if (!stored.name.ends_with("e_score_correction_bias")) return;
    const float infinity = std::numeric_limits<float>::infinity();
    std::memcpy(stored.data.data() + 4, &infinity, 4);
  });
  EXPECT_THAT(folder.refusal(Errc::bad_file),
              AllOf(HasSubstr("block_sparse_moe.e_score_correction_bias"), HasSubstr("element 1 is inf")));
}

// Adding a constant to the correction bias changes neither the choice nor the weights (spec of the router).
TEST(MinimaxM2, AConstantInTheCorrectionBiasChangesNothing) {
  const Folder folder("minimax-odd", "{}", [](Stored& stored) {
    if (!stored.name.ends_with("e_score_correction_bias")) return;
    for (std::size_t at = 0; at < stored.data.size(); at += 4) {
      float value;
      std::memcpy(&value, stored.data.data() + at, 4);
      value += 2;
      std::memcpy(stored.data.data() + at, &value, 4);
    }
  });
  test::expect_same_bits(logits(folder.path()), logits(models + "minimax-odd"), "constant");
}

}  // namespace
}  // namespace millrace
