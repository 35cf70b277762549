#include "model/qkv_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "loader/weight_store.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// Rows of the three projections of a layer.
struct QkvRows {
  std::int64_t q, k, v;

  explicit QkvRows(const LayerSpec& layer)
      : q(layer.heads * layer.qk_dim), k(layer.kv_heads * layer.qk_dim), v(layer.kv_heads * layer.v_dim) {}
  std::int64_t total() const { return q + k + v; }
  std::int64_t of(Projection which) const { return which == Projection::q ? q : which == Projection::k ? k : v; }
  std::int64_t before(Projection which) const {
    return which == Projection::q ? 0 : which == Projection::k ? q : q + k;
  }
};

struct FusedLayer {
  const LayerSpec* layer;
  StoredTensor weight, scale;  // the latter of F8_E4M3 only
};

std::vector<FusedLayer> fused_layers(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::vector<FusedLayer> fused;
  const auto add = [&](const std::string& layer_name, const LayerSpec& layer) {
    const std::string name = layer_name + ".self_attn.qkv_proj.weight";
    const StoredTensor weight = checkpoint.find(name);
    if (!weight) return false;
    const bool is_f8 = weight.entry->dtype == Dtype::f8_e4m3;
    fused.push_back({&layer, weight, is_f8 ? checkpoint.find(name + "_scale_inv") : StoredTensor{}});
    return true;
  };
  for (std::size_t i = 0; i < config.layers.size(); ++i) add(fmt::format("layers.{}", i), config.layers[i]);
  for (int i = 0; add(fmt::format("mtp.layers.{}", i), config.mtp_layer); ++i) {
  }
  return fused;
}

// Whether the scales cannot be those of one grid over all rows.
bool is_chunked(const FusedLayer& fused) {
  return fused.scale && !fused.scale.entry->shape.empty() &&
         fused.scale.entry->shape[0] != scale_blocks(QkvRows(*fused.layer).total());
}

bool fits(const FusedLayer& fused, std::int64_t chunks) {
  const LayerSpec& layer = *fused.layer;
  if (layer.heads % chunks != 0 || layer.kv_heads % chunks != 0) return false;
  if (!fused.scale || fused.scale.entry->shape.empty()) return true;  // reported when it is loaded
  return fused.scale.entry->shape[0] == chunks * scale_blocks(QkvRows(layer).total() / chunks);
}

}  // namespace

std::int64_t qkv_chunks(const Checkpoint& checkpoint, const ModelConfig& config) {
  const std::vector<FusedLayer> fused = fused_layers(checkpoint, config);
  const auto fits_all = [&](std::int64_t chunks) {
    return std::all_of(fused.begin(), fused.end(), [&](const FusedLayer& layer) { return fits(layer, chunks); });
  };
  const std::int64_t published = config.qkv_chunks;
  if (fits_all(published)) return published;
  // Only a grid that is not the ordinary one proves another number.
  if (std::any_of(fused.begin(), fused.end(), is_chunked))
    for (const std::int64_t chunks : {8, 4, 2, 16})
      if (fits_all(chunks)) return chunks;
  const auto bad = std::find_if(fused.begin(), fused.end(), [&](const FusedLayer& at) { return !fits(at, published); });
  const std::int64_t rows = QkvRows(*bad->layer).total();
  const std::string scales = bad->scale ? " with scales of shape " + shape_text(bad->scale.entry->shape) : "";
  fail(Errc::bad_file,
       "{}{} is no concatenation of chunks of q, k and v: {} chunks (num_key_value_heads) of {} rows and {} rows of "
       "scales were expected",
       title_of(bad->weight), scales, published, rows / published, published * scale_blocks(rows / published));
}

ProjectionWeights load_projection(WeightStore& weights, const ModelConfig& config, const std::string& name,
                                  const LayerSpec& layer, Projection which) {
  constexpr std::array<std::string_view, 3> letters = {"q", "k", "v"};
  const std::string fused = name + ".qkv_proj";
  const std::string single = fmt::format("{}.{}_proj", name, letters[static_cast<std::size_t>(which)]);
  const QkvRows sizes(layer);
  ProjectionWeights loaded;
  if (!weights.has(fused + ".weight")) {
    loaded.weight = weights.linear(single + ".weight", sizes.of(which), config.hidden, layer.kv_heads);
    if (config.qkv_bias) loaded.bias = weights.vector(single + ".bias", sizes.of(which));
    return loaded;
  }
  const Checkpoint& checkpoint = weights.checkpoint();
  require(!weights.has(single + ".weight"), Errc::bad_file, "{}: both {}.weight and {}.weight are there",
          checkpoint.path(), checkpoint.spelled(fused), checkpoint.spelled(single));
  const std::int64_t chunks = qkv_chunks(checkpoint, config);
  const RowRuns rows = {.first = sizes.before(which) / chunks,
                        .runs = chunks,
                        .rows = sizes.of(which) / chunks,
                        .stride = sizes.total() / chunks};
  loaded.weight = weights.linear_rows(fused + ".weight", rows, config.hidden);
  if (config.qkv_bias) loaded.bias = weights.vector_rows(fused + ".bias", rows);
  return loaded;
}

}  // namespace millrace
