#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "apps/cli/inspect_report.h"
#include "apps/common/kernels.h"
#include "apps/common/output.h"
#include "apps/common/progress.h"
#include "runtime/tensor.h"

namespace millrace {
namespace {

std::string size_text(std::uint64_t bytes) {
  return bytes_text(static_cast<double>(bytes));
}

std::string rope_text(const RopeSpec& rope) {
  std::string text = fmt::format("{} dims, theta {:g}", rope.rotary_dim, rope.theta);
  if (rope.type == RopeType::linear) text += fmt::format(", linear x{:g}", rope.factor);
  if (rope.type == RopeType::yarn) text += fmt::format(", yarn x{:g}", rope.factor);
  return text;
}

std::string layer_text(const LayerSpec& layer) {
  const std::string window = layer.window > 0 ? std::to_string(layer.window) : "all";
  return fmt::format("{:<8} {:>5} {:>8} {:>6} {:>5} {:>6}  {:<7}  {:<5}  {:<26} {} {}",
                     layer.attention == AttentionKind::sliding ? "sliding" : "full", layer.heads, layer.kv_heads,
                     layer.qk_dim, layer.v_dim, window, layer.qk_norm ? "yes" : "no", layer.sinks ? "yes" : "no",
                     rope_text(layer.rope), layer.moe ? "experts of" : "dense", layer.width);
}

// Runs of equal layers on one line each.
std::string layer_table(const std::vector<LayerSpec>& layers) {
  std::string text =
      fmt::format("{:<9} {:<8} {:>5} {:>8} {:>6} {:>5} {:>6}  {:<7}  {:<5}  {:<26} {}\n", "layers", "attention",
                  "heads", "kv heads", "qk dim", "v dim", "window", "qk norm", "sinks", "rope", "mlp");
  for (std::size_t begin = 0, end; begin < layers.size(); begin = end) {
    const std::string line = layer_text(layers[begin]);
    end = begin + 1;
    while (end < layers.size() && layer_text(layers[end]) == line) ++end;
    const std::string run = end == begin + 1 ? std::to_string(begin) : fmt::format("{}-{}", begin, end - 1);
    text += fmt::format("{:<9} {}\n", run, line);
  }
  return text;
}

std::string config_text(const Engine& engine) {
  const ModelConfig& config = engine.config();
  std::string text = fmt::format("family    {} ({})\n", config.family, printable(config.architecture));
  text += fmt::format("model     {} layers, hidden {}, vocabulary {}, {} positions, epsilon {:g}{}{}{}\n",
                      config.layers.size(), config.hidden, config.vocab, config.max_positions, config.epsilon,
                      config.value_scale == 1 ? "" : fmt::format(", value scale {:g}", config.value_scale),
                      config.qkv_bias ? ", q/k/v biases" : "", config.tied_embeddings ? ", tied embeddings" : "");
  const RouterSpec& router = config.router;
  if (router.experts > 0) {
    text += fmt::format("router    {} of {} experts", router.top_k, router.experts);
    if (router.groups > 1) text += fmt::format(" from {} of {} groups", router.top_groups, router.groups);
    text += fmt::format("{}, scale {:g}\n", router.normalize ? ", normalized" : "", router.scale);
  }
  text += fmt::format("stop ids  {}\n", fmt::join(engine.stop_ids(), ", "));
  return text + "\n" + layer_table(config.layers) + "\n";
}

std::string memory_text(const Engine& engine) {
  const MemoryPlan& plan = engine.plan();
  std::string text = "memory\n";
  text += fmt::format("  dense weights   {:>10}\n", size_text(plan.weights.total()));
  text += fmt::format("  experts         {:>10}  read on demand if more than memory\n",
                      size_text(plan.experts.resident_bytes));
  text += fmt::format("  working memory  {:>10}  passes of {} tokens\n", size_text(plan.workspace), plan.chunk);
  text += fmt::format("  KV cache        {:>10}  at {} tokens; {} fixed, {} per token\n", size_text(plan.kv()),
                      plan.context, size_text(plan.kv_fixed), size_text(plan.kv_per_token));
  return text + "\n";
}

std::string kernels_text(const Engine& engine) {
  const bool has_unused_tiles = isa_supported(Isa::amx) && active_isa() != Isa::amx;
  std::string text = fmt::format("machine   {} threads, tier {}{}\nkernels   ", engine.parallel().threads(),
                                 name_of(active_isa()), has_unused_tiles ? "; amx only with --isa amx" : "");
  std::map<Isa, std::vector<std::string_view>> by_tier;
  for (const KernelChoice& kernel : chosen_kernels()) by_tier[kernel.isa].push_back(kernel.name);
  const char* separator = "";
  for (const auto& [isa, names] : by_tier) {
    text += fmt::format("{}{}: {}", separator, name_of(isa), fmt::join(names, ", "));
    separator = "\n          ";
  }
  return text + "\n";
}

std::string files_text(const Inspection& inspection) {
  const Checkpoint& checkpoint = inspection.checkpoint();
  struct Total {
    std::size_t tensors = 0;
    std::uint64_t bytes = 0;
  };
  std::map<std::string_view, Total> by_dtype;
  for (const auto& [name, stored] : checkpoint.tensors()) {
    Total& total = by_dtype[name_of(stored.entry->dtype)];
    ++total.tensors;
    total.bytes += stored.entry->bytes;
  }
  std::string text = fmt::format("path      {}\nfiles     {}, {} tensors:", printable(checkpoint.path()),
                                 checkpoint.files().size(), checkpoint.tensors().size());
  const char* separator = " ";
  for (const auto& [dtype, total] : by_dtype) {
    text += fmt::format("{}{} {} ({})", separator, total.tensors, dtype, size_text(total.bytes));
    separator = ", ";
  }
  return text + "\n";
}

std::string unused_text(const Engine& engine) {
  const std::vector<std::string> unused = engine.unused_tensors();
  if (unused.empty()) return {};
  std::string text = fmt::format("unused    {} tensors, e.g. {}", unused.size(), printable(unused.front()));
  return text + (unused.size() > 1 ? " and " + printable(unused.back()) : "") + "\n";
}

std::string warnings_text(const Engine& engine) {
  std::string text;
  for (const std::string& warning : engine.warnings()) text += fmt::format("warning   {}\n", printable(warning));
  return text;
}

std::string tensors_text(const Checkpoint& checkpoint) {
  std::string text = "\n";
  for (const auto& file : checkpoint.files()) {
    text += printable(file->path()) + "\n";
    for (const TensorEntry& entry : file->entries())
      text += fmt::format("  {:<62} {:<8} {:<16} {:>10}\n", printable(entry.name), name_of(entry.dtype),
                          shape_text(entry.shape), size_text(entry.bytes));
  }
  return text;
}

// Runs of tensors that read alike on one line each: what their codes say about grids that shapes leave open.
std::string grids_text(const std::vector<GridReading>& grids) {
  std::map<std::string, std::vector<std::string>> tensors;
  for (const GridReading& grid : grids) {
    std::vector<std::string> runs;
    for (const std::int64_t count : grid.passes) runs.push_back(std::to_string(grid.rows / count));
    const std::string how =
        runs.empty() ? "none that fits" : fmt::format("one for each {} rows", fmt::join(runs, " or "));
    tensors[fmt::format("{} rows: {}", grid.rows, how)].push_back(grid.tensor);
  }
  std::string text;
  for (const auto& [how, names] : tensors) {
    text += fmt::format("{} {}", text.empty() ? "\nscale grids by their codes\n " : " ", how);
    text +=
        fmt::format(", {} tensor{}, e.g. {}\n", names.size(), names.size() == 1 ? "" : "s", printable(names.front()));
  }
  return text;
}

std::string findings_text(const std::vector<Finding>& findings) {
  if (findings.empty()) return "\nverified: nothing is wrong\n";
  std::string text = "\n";
  for (const Finding& finding : findings)
    text += fmt::format("{}: {}\n", finding.severity == Finding::Severity::error ? "problem" : "warning",
                        printable(finding.message));
  return text;
}

// Lines that sha256sum -c takes; those of tensors have the same form.
std::string checksums_text(const Inspection& inspection) {
  std::string text = "\n";
  for (const FileChecksum& file : inspection.files) text += fmt::format("{}  {}\n", file.sha256, printable(file.name));
  for (const TensorChecksum& tensor : inspection.tensors)
    text += fmt::format("{}  {}\n", tensor.sha256, printable(tensor.name));
  return text;
}

}  // namespace

std::string inspection_text(const Inspection& inspection) {
  std::string text = files_text(inspection);
  if (inspection.engine) {
    const Engine& engine = *inspection.engine;
    text +=
        config_text(engine) + memory_text(engine) + kernels_text(engine) + unused_text(engine) + warnings_text(engine);
  }
  if (inspection.list_tensors || !inspection.checkpoint().has_config()) text += tensors_text(inspection.checkpoint());
  if (inspection.verification)
    text += grids_text(inspection.verification->grids) + findings_text(inspection.verification->findings);
  if (!inspection.files.empty()) text += checksums_text(inspection);
  return text;
}

}  // namespace millrace
