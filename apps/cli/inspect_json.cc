#include <nlohmann/json.hpp>

#include "apps/cli/inspect_report.h"
#include "apps/common/json_text.h"
#include "apps/common/kernels.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

Json rope_json(const RopeSpec& rope) {
  constexpr std::array types = {"plain", "linear", "yarn"};
  return {{"type", types[static_cast<std::size_t>(rope.type)]},
          {"rotary_dim", rope.rotary_dim},
          {"theta", rope.theta},
          {"factor", rope.factor},
          {"attention_factor", rope.attention_factor}};
}

Json layer_json(const LayerSpec& layer) {
  return {{"attention", layer.attention == AttentionKind::sliding ? "sliding" : "full"},
          {"heads", layer.heads},
          {"kv_heads", layer.kv_heads},
          {"qk_dim", layer.qk_dim},
          {"v_dim", layer.v_dim},
          {"window", layer.window},
          {"qk_norm", layer.qk_norm},
          {"sinks", layer.sinks},
          {"rope", rope_json(layer.rope)},
          {"mlp", layer.moe ? "experts" : "dense"},
          {"width", layer.width}};
}

Json config_json(const ModelConfig& config) {
  Json layers = Json::array();
  for (const LayerSpec& layer : config.layers) layers.push_back(layer_json(layer));
  const RouterSpec& router = config.router;
  return {{"family", config.family},
          {"architecture", config.architecture},
          {"vocab", config.vocab},
          {"hidden", config.hidden},
          {"max_positions", config.max_positions},
          {"epsilon", config.epsilon},
          {"value_scale", config.value_scale},
          {"qkv_bias", config.qkv_bias},
          {"tied_embeddings", config.tied_embeddings},
          {"router",
           {{"experts", router.experts},
            {"top_k", router.top_k},
            {"groups", router.groups},
            {"top_groups", router.top_groups},
            {"normalize", router.normalize},
            {"scale", router.scale}}},
          {"layers", layers}};
}

Json engine_json(const Engine& engine) {
  const MemoryPlan& plan = engine.plan();
  Json kernels = Json::object();
  for (const KernelChoice& kernel : chosen_kernels()) kernels[std::string(kernel.name)] = name_of(kernel.isa);
  return {{"config", config_json(engine.config())},
          {"stop_ids", engine.stop_ids()},
          {"context", engine.context()},
          {"memory",
           {{"dense_weights", plan.weights.total()},
            {"expert_weights", plan.experts.resident_bytes},
            {"workspace", plan.workspace},
            {"kv_per_token", plan.kv_per_token},
            {"kv_fixed", plan.kv_fixed}}},
          {"threads", engine.parallel().threads()},
          {"isa", name_of(active_isa())},
          {"kernels", kernels},
          {"unused_tensors", engine.unused_tensors()},
          {"warnings", engine.warnings()}};
}

Json files_json(const Checkpoint& checkpoint, bool list_tensors) {
  Json files = Json::array();
  for (const auto& file : checkpoint.files()) {
    Json entry = {{"path", file->path()}, {"metadata", file->metadata()}, {"tensor_count", file->entries().size()}};
    for (const TensorEntry& tensor : file->entries())
      if (list_tensors)
        entry["tensors"].push_back({{"name", tensor.name},
                                    {"dtype", name_of(tensor.dtype)},
                                    {"shape", tensor.shape},
                                    {"bytes", tensor.bytes}});
    files.push_back(entry);
  }
  return files;
}

Json verification_json(const Verification& verification) {
  Json findings = Json::array(), grids = Json::array();
  for (const Finding& finding : verification.findings)
    findings.push_back({{"severity", finding.severity == Finding::Severity::error ? "error" : "warning"},
                        {"tensor", finding.tensor},
                        {"message", finding.message}});
  for (const GridReading& grid : verification.grids)
    grids.push_back({{"tensor", grid.tensor}, {"rows", grid.rows}, {"fits", grid.fits}, {"passes", grid.passes}});
  return {{"findings", findings}, {"scale_grids", grids}};
}

}  // namespace

std::string inspection_json(const Inspection& inspection) {
  const Checkpoint& checkpoint = inspection.checkpoint();
  Json json = {{"path", checkpoint.path()}};
  if (inspection.engine) json.update(engine_json(*inspection.engine));
  json["files"] = files_json(checkpoint, inspection.list_tensors || !checkpoint.has_config());
  if (inspection.verification) json.update(verification_json(*inspection.verification));
  for (const FileChecksum& file : inspection.files)
    json["checksums"].push_back({{"file", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  for (const TensorChecksum& tensor : inspection.tensors)
    json["tensor_checksums"].push_back({{"tensor", tensor.name}, {"sha256", tensor.sha256}});
  return json_text(json);
}

}  // namespace millrace
