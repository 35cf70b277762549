#include "model/call_inputs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "model/engine.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::string_view full_name = "full_attention", sliding_name = "sliding_attention";

// Elements of an array of the call, or an error naming both sizes.
void require_size(std::size_t found, std::int64_t rows, std::int64_t columns, const char* what) {
  require(found == static_cast<std::size_t>(rows * columns), Errc::bad_argument, "{}: {} values, expected {} ({} x {})",
          what, found, rows * columns, rows, columns);
}

void require_flags(std::span<const std::uint8_t> flags, const char* what) {
  const auto wrong = std::find_if(flags.begin(), flags.end(), [](std::uint8_t flag) { return flag > 1; });
  require(wrong == flags.end(), Errc::bad_argument, "{}: entry {} is {}, expected 0 or 1", what, wrong - flags.begin(),
          wrong == flags.end() ? 0 : int{*wrong});
}

bool has_layers(const ModelConfig& config, bool sliding) {
  return std::any_of(config.layers.begin(), config.layers.end(),
                     [sliding](const LayerSpec& layer) { return (layer.window > 0) == sliding; });
}

}  // namespace

CallInputs::CallInputs(const Engine& engine, const ForwardInputs& inputs, std::int64_t held, std::int64_t rows)
    : engine_(engine), inputs_(inputs), held_(held), rows_(rows) {
  if (inputs.embeddings.data() != nullptr) {
    const std::int64_t hidden = engine.config().hidden;
    require_size(inputs.embeddings.size(), rows, hidden, "embeddings");
    for (std::int64_t i = 0; i < rows * hidden; ++i)
      require(std::isfinite(inputs.embeddings[static_cast<std::size_t>(i)]), Errc::bad_argument,
              "embeddings: row {}, element {} is {}, expected a finite number", i / hidden, i % hidden,
              inputs.embeddings[static_cast<std::size_t>(i)]);
  }
  if (inputs.inactive.data() != nullptr) {
    require_size(inputs.inactive.size(), rows, 1, "inactive rows");
    require_flags(inputs.inactive, "inactive rows");
    inactive_.assign(inputs.inactive.begin(), inputs.inactive.end());
  }
  if (inputs.padding.data() != nullptr) take_padding();
  for (const LayerMask& mask : inputs.masks) take_mask(mask);
  for (const LayerExperts& layer : inputs.experts) take_experts(layer);
  if (inputs.attention != nullptr) take_attention();
}

void CallInputs::take_padding() {
  require_size(inputs_.padding.size(), 1, held_ + rows_, "padding mask");
  require_flags(inputs_.padding, "padding mask");
  inactive_.resize(static_cast<std::size_t>(rows_));
  for (std::size_t row = 0; row < inactive_.size(); ++row)
    if (inputs_.padding[static_cast<std::size_t>(held_) + row] == 0) inactive_[row] = 1;
  full_mask_.keep = sliding_mask_.keep = inputs_.padding.data();
}

void CallInputs::take_mask(const LayerMask& mask) {
  const bool every = mask.kind.empty(), full = mask.kind == full_name;
  const bool sliding = mask.kind == sliding_name || mask.kind == "sliding_window_attention";
  require(every || full || sliding, Errc::bad_argument, "a mask of kind '{}', expected {} or {}",
          mask.kind.substr(0, 60), full_name, sliding_name);
  require((mask.visible.data() == nullptr) != (mask.additive.data() == nullptr), Errc::bad_argument,
          "a mask needs either flags or numbers to add");
  const KeyMask own{.visible = mask.visible.data(), .additive = mask.additive.data(), .stride = held_ + rows_};
  require_size(own.visible != nullptr ? mask.visible.size() : mask.additive.size(), rows_, own.stride,
               "attention mask (new tokens x all tokens)");
  require_flags(mask.visible, "attention mask");
  for (std::size_t i = 0; i < mask.additive.size(); ++i)
    require(mask.additive[i] < std::numeric_limits<float>::infinity(), Errc::bad_argument,
            "attention mask: row {}, key {} adds {}, expected a number or -inf",
            static_cast<std::int64_t>(i) / own.stride, static_cast<std::int64_t>(i) % own.stride, mask.additive[i]);
  for (const bool of_sliding : {false, true}) {
    if (!every && of_sliding != sliding) continue;
    const std::string_view name = of_sliding ? sliding_name : full_name;
    const bool there = has_layers(engine_.config(), of_sliding);
    require(there || every, Errc::bad_argument, "a mask of kind {}, but the model has no such layer", name);
    KeyMask& target = of_sliding ? sliding_mask_ : full_mask_;
    require(!target.replaces(), Errc::bad_argument, "two masks for the {} layers", name);
    if (there) check_mask(own, of_sliding, name);
    target = own;
  }
}

void CallInputs::check_mask(const KeyMask& mask, bool sliding, std::string_view kind) const {
  std::int64_t oldest = 0;
  bool sinks = true;
  for (const LayerSpec& layer : engine_.config().layers) {
    if ((layer.window > 0) != sliding) continue;
    sinks = sinks && layer.sinks;
    if (sliding) oldest = std::max(oldest, held_ - layer.window);
  }
  for (std::int64_t row = 0; row < rows_; ++row) {
    std::int64_t first = 0;
    while (first < mask.stride && !mask.sees(row, first)) ++first;
    const bool inactive = !inactive_.empty() && inactive_[static_cast<std::size_t>(row)] != 0;
    require(first < mask.stride || sinks || inactive, Errc::bad_argument,
            "attention mask: row {} sees no key in the {} layers, where its result is not defined", row, kind);
    require(first >= oldest, Errc::bad_argument,
            "attention mask: row {} sees key {} in the {} layers, whose window has let go of keys before {}", row,
            first, kind, oldest);
  }
}

void CallInputs::take_experts(const LayerExperts& given) {
  const ModelConfig& config = engine_.config();
  const std::int64_t top_k = config.router.top_k;
  require(given.layer >= 0 && given.layer < std::ssize(config.layers) &&
              config.layers[static_cast<std::size_t>(given.layer)].moe,
          Errc::bad_argument, "forced experts of layer {}, which is no expert layer of this model", given.layer);
  require(std::none_of(forced_.begin(), forced_.end(), [&](const Forced& f) { return f.layer == given.layer; }),
          Errc::bad_argument, "forced experts of layer {} are given twice", given.layer);
  require_size(given.ids.size(), rows_, top_k, "forced experts");
  if (given.weights.data() != nullptr) require_size(given.weights.size(), rows_, top_k, "weights of forced experts");
  Forced& forced = forced_.emplace_back();
  forced.layer = given.layer;
  std::vector<std::size_t> order(static_cast<std::size_t>(top_k));
  for (std::int64_t row = 0; row < rows_; ++row) {
    const std::size_t at = static_cast<std::size_t>(row * top_k);
    std::iota(order.begin(), order.end(), at);
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return given.ids[a] < given.ids[b]; });
    for (std::size_t i : order) {
      const std::int32_t id = given.ids[i];
      require(id >= 0 && id < config.router.experts, Errc::bad_argument,
              "forced experts of layer {}: row {} names expert {}, expected 0 to {}", given.layer, row, id,
              config.router.experts - 1);
      require(forced.ids.size() == at || forced.ids.back() != id, Errc::bad_argument,
              "forced experts of layer {}: row {} names expert {} twice", given.layer, row, id);
      forced.ids.push_back(id);
      if (given.weights.data() == nullptr) continue;
      require(std::isfinite(given.weights[i]), Errc::bad_argument,
              "forced experts of layer {}: a weight of row {} is {}, expected a finite number", given.layer, row,
              given.weights[i]);
      forced.weights.push_back(given.weights[i]);
    }
  }
}

void CallInputs::take_attention() {
  AttentionRecord& record = *inputs_.attention;
  const auto& layers = engine_.config().layers;
  record.keys = held_ + rows_;
  record.probabilities.clear();
  std::vector<int> wanted = record.layers;
  if (wanted.empty()) {
    wanted.resize(layers.size());
    std::iota(wanted.begin(), wanted.end(), 0);
  }
  for (int layer : wanted) {
    require(layer >= 0 && layer < std::ssize(layers), Errc::bad_argument,
            "attention probabilities of layer {}, expected 0 to {}", layer, layers.size() - 1);
    const std::int64_t heads = layers[static_cast<std::size_t>(layer)].heads;
    const double bytes =
        4.0 * static_cast<double>(rows_) * static_cast<double>(heads) * static_cast<double>(record.keys);
    require(bytes < 64e9, Errc::out_of_memory, "attention probabilities of {} x {} x {} for layer {} are too many",
            rows_, heads, record.keys, layer);
    record.probabilities[layer].assign(static_cast<std::size_t>(rows_ * heads * record.keys), 0.0f);
  }
  probabilities_.resize(layers.size());
}

const RunInputs& CallInputs::of_rows(std::int64_t begin) {
  pass_ = {};
  if (inputs_.embeddings.data() != nullptr)
    pass_.embeddings = inputs_.embeddings.data() + begin * engine_.config().hidden;
  if (!inactive_.empty()) pass_.inactive = inactive_.data() + begin;
  pass_.full_mask = full_mask_;
  pass_.sliding_mask = sliding_mask_;
  for (KeyMask* mask : {&pass_.full_mask, &pass_.sliding_mask}) {
    if (mask->visible != nullptr) mask->visible += begin * mask->stride;
    if (mask->additive != nullptr) mask->additive += begin * mask->stride;
  }
  forced_views_.clear();
  const std::int64_t first = begin * engine_.config().router.top_k;
  for (const Forced& forced : forced_)
    forced_views_.push_back({.layer = forced.layer,
                             .ids = forced.ids.data() + first,
                             .weights = forced.weights.empty() ? nullptr : forced.weights.data() + first});
  pass_.forced = forced_views_;
  if (inputs_.attention != nullptr) {
    for (auto& [layer, values] : inputs_.attention->probabilities)
      probabilities_[static_cast<std::size_t>(layer)] = values.data() + begin * (std::ssize(values) / rows_);
    pass_.probabilities = probabilities_;
    pass_.probability_keys = inputs_.attention->keys;
  }
  return pass_;
}

}  // namespace millrace
