#include <algorithm>
#include <memory>

#include "apps/cli/command.h"
#include "apps/cli/inspect_report.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "apps/common/progress.h"
#include "ops/isa.h"
#include "runtime/error.h"

namespace millrace {
namespace {

struct InspectFlags {
  EngineFlags engine;
  bool json = false, tensors = false, verify = false, checksums = false;
};

bool is_error(const Finding& finding) {
  return finding.severity == Finding::Severity::error;
}

Progress shown_by(ProgressBar& bar) {
  return [&bar](std::uint64_t done, std::uint64_t total) { bar.update(done, total); };
}

Verification verify(const Checkpoint& checkpoint) {
  ProgressBar bar("Verifying");
  return verify_checkpoint(checkpoint, shown_by(bar));
}

void add_checksums(Inspection& inspection) {
  ProgressBar bar("Hashing");
  inspection.files = file_checksums(inspection.checkpoint(), shown_by(bar));
  if (inspection.list_tensors) inspection.tensors = tensor_checksums(inspection.checkpoint(), shown_by(bar));
}

// Opens the model by its headers alone. With --verify a model that cannot be built is a finding, not the end.
void open_model(const InspectFlags& flags, const std::filesystem::path& path, Inspection& inspection,
                std::vector<Finding>& findings) {
  EngineOptions options = engine_options(flags.engine);
  options.headers_only = true;
  try {
    inspection.engine = Engine::open(path, options);
  } catch (const Error& error) {
    if (!flags.verify) throw;
    inspection.own_checkpoint = std::make_shared<Checkpoint>(Checkpoint::open(path));
    findings.push_back({.severity = Finding::Severity::error, .tensor = "", .message = error.what()});
  }
}

int inspect(const InspectFlags& flags) {
  apply_isa(flags.engine);
  const std::filesystem::path path = model_folder(flags.engine.model);
  Inspection inspection;
  inspection.list_tensors = flags.tensors;
  std::vector<Finding> findings;
  if (path.extension() == ".safetensors")
    inspection.own_checkpoint = std::make_shared<Checkpoint>(Checkpoint::open(path));
  else
    open_model(flags, path, inspection, findings);
  if (flags.verify) {
    Verification values = verify(inspection.checkpoint());
    values.findings.insert(values.findings.begin(), findings.begin(), findings.end());
    findings = values.findings;
    inspection.verification = std::move(values);
  }
  if (flags.checksums) add_checksums(inspection);
  write_output(flags.json ? inspection_json(inspection) : inspection_text(inspection));
  return std::any_of(findings.begin(), findings.end(), is_error) ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace

Run declare_inspect(CLI::App& app) {
  const auto flags = std::make_shared<InspectFlags>();
  app.add_flag("--tensors", flags->tensors, "list every tensor");
  app.add_flag("--verify", flags->verify, "read all data and report what is wrong; exit code 1 if something is");
  app.add_flag("--checksums", flags->checksums,
               "SHA-256 of every file, as sha256sum does; with --tensors of every tensor");
  app.add_flag("--json", flags->json, "print one JSON object");
  add_engine_options(app, flags->engine);
  app.get_option("--model")->description("folder of the model, or one .safetensors file; default: the demo");
  app.footer("Example: millrace inspect -m DIR --verify");
  return [flags] { return inspect(*flags); };
}

}  // namespace millrace
