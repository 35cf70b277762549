#include "apps/cli/eval_inputs.h"

#include <charconv>

#include "apps/common/tensor_input.h"
#include "model/engine.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// N of "layers.N.mlp.topk_ids", or -1.
int layer_of_ids(std::string_view name) {
  constexpr std::string_view prefix = "layers.", suffix = ".mlp.topk_ids";
  if (!name.starts_with(prefix) || !name.ends_with(suffix) || name.size() <= prefix.size() + suffix.size()) return -1;
  name.remove_prefix(prefix.size());
  name.remove_suffix(suffix.size());
  int layer = -1;
  const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return failure == std::errc() && end == name.data() + name.size() ? layer : -1;
}

void require_shape(const SafetensorsFile& file, const TensorEntry& entry, const std::vector<std::int64_t>& expected) {
  require(core_shape(entry, expected.size()) == expected, Errc::bad_file, "{}: {} has shape {}, expected {}",
          file.path(), entry.name, shape_text(entry.shape), shape_text(expected));
}

}  // namespace

void InputFlags::add_to(CLI::App& app, const std::string& group) {
  app.add_option("--embeds", embeddings_file_, "a safetensors file: embeddings (or a dump's embed_tokens) for a prompt")
      ->option_text("F")
      ->group(group);
  app.add_option("--mask", mask_file_,
                 "a safetensors file: attention_mask (2-D or 4-D), full_attention, "
                 "sliding_attention")
      ->option_text("F")
      ->group(group);
  app.add_option("--pad-left", pad_left_, "N masked rows in front; results stay the same")
      ->option_text("N")
      ->check(CLI::Range(0, 1 << 20))
      ->group(group);
  app.add_option("--force-experts", experts_file_, "take the experts of a dump (layers.N.mlp.topk_ids)")
      ->option_text("F")
      ->group(group);
}

void InputFlags::read(const Engine& engine, std::int64_t tokens) {
  rows_ = tokens;
  if (has_embeddings()) read_embeddings(engine);
  if (pad_left_ > 0) {
    padding_.assign(static_cast<std::size_t>(rows_), 1);
    std::fill_n(padding_.begin(), pad_left_, std::uint8_t{0});
  }
  if (!mask_file_.empty()) read_masks();
  if (!experts_file_.empty()) read_experts();
}

void InputFlags::read_embeddings(const Engine& engine) {
  require(pad_left_ == 0, Errc::bad_argument, "--pad-left is for prompts, not for --embeds");
  const SafetensorsFile file(embeddings_file_);
  const TensorEntry& entry = demand_tensor(file, file.find("embed_tokens") != nullptr ? "embed_tokens" : "embeddings");
  const std::vector<std::int64_t> shape = core_shape(entry, 2);
  require(shape.size() == 2 && shape[1] == engine.config().hidden, Errc::bad_file,
          "{}: {} has shape {}, expected [rows, {}]", file.path(), entry.name, shape_text(entry.shape),
          engine.config().hidden);
  embeddings_ = read_floats(file, entry);
  rows_ = shape[0];
}

void InputFlags::read_masks() {
  const SafetensorsFile file(mask_file_);
  require(!file.entries().empty(), Errc::bad_file, "{}: no mask in it", file.path());
  for (const TensorEntry& entry : file.entries()) {
    const bool every = entry.name == "attention_mask";
    if (every && core_shape(entry, 1).size() == 1) {
      require_shape(file, entry, {rows_});
      const std::vector<std::uint8_t> keep = read_flags(file, entry);
      padding_.resize(keep.size(), 1);
      for (std::size_t i = 0; i < keep.size(); ++i) padding_[i] = padding_[i] & keep[i];
      continue;
    }
    require_shape(file, entry, {rows_, rows_});
    Mask& mask = masks_.emplace_back();
    mask.kind = every ? "" : entry.name;
    if (is_floating(entry))
      mask.additive = read_floats(file, entry);
    else
      mask.visible = read_flags(file, entry);
  }
  for (const Mask& mask : masks_)
    mask_views_.push_back({.kind = mask.kind,
                           .visible = mask.additive.empty() ? std::span(mask.visible) : std::span<const std::uint8_t>(),
                           .additive = mask.additive});
}

void InputFlags::read_experts() {
  const SafetensorsFile file(experts_file_);
  for (const TensorEntry& entry : file.entries()) {
    const int layer = layer_of_ids(entry.name);
    if (layer < 0) continue;
    const std::vector<std::int64_t> shape = core_shape(entry, 2);
    require(shape.size() == 2 && shape[0] == rows_, Errc::bad_file, "{}: {} has shape {}, expected [{}, experts]",
            file.path(), entry.name, shape_text(entry.shape), rows_);
    experts_.push_back({.layer = layer, .ids = read_integers(file, entry), .weights = {}});
    expert_views_.push_back({.layer = layer, .ids = experts_.back().ids});
  }
  require(!expert_views_.empty(), Errc::not_found, "{}: no tensor layers.N.mlp.topk_ids", file.path());
}

ForwardInputs InputFlags::inputs() const {
  return {.embeddings = embeddings_, .padding = padding_, .masks = mask_views_, .experts = expert_views_};
}

}  // namespace millrace
