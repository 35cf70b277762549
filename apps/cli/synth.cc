#include <fmt/ranges.h>

#include <limits>
#include <memory>
#include <vector>

#include "apps/cli/command.h"
#include "apps/common/interrupt.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "apps/common/progress.h"
#include "model/synthetic.h"

namespace millrace {
namespace {

struct SynthFlags {
  SyntheticRequest request;
  SyntheticOptions options;
  std::string folder;
  bool fp8 = false, bf16 = false;
};

// Ctrl-C while files are written: what was written is removed.
struct Interrupted {};

int synth(SynthFlags& flags) {
  if (flags.fp8 || flags.bf16) flags.request.fp8 = flags.fp8;
  const SyntheticModel model = synthetic_model(flags.request);
  const Interrupt interrupt;
  try {
    ProgressBar bar("Writing");
    flags.options.progress = [&bar](std::uint64_t done, std::uint64_t total) {
      if (Interrupt::requested()) throw Interrupted{};
      bar.update(done, total);
    };
    write_synthetic(model, flags.folder, flags.options);
  } catch (const Interrupted&) {
    return Interrupt::exit_code;
  }
  const double bytes = static_cast<double>(synthetic_bytes(model, flags.options));
  print_note(fmt::format("{}: {} of {}, {} layers, {} experts, {}\n", flags.folder, bytes_text(bytes),
                         model.family->name, model.config.layers.size(), model.config.router.experts,
                         model.fp8 ? "FP8" : "BF16"));
  return EXIT_SUCCESS;
}

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const Family* family : families()) names.emplace_back(family->name);
  return names;
}

std::string footer() {
  std::string text = "Shapes:\n";
  for (const SyntheticShape& shape : synthetic_shapes())
    text += fmt::format("  {:<26}{} ({})\n", shape.name, shape.summary, shape.family);
  return text + "\nExample: millrace synth --shape mimo-reduced --experts 16 --out DIR";
}

}  // namespace

Run declare_synth(CLI::App& app) {
  const auto flags = std::make_shared<SynthFlags>();
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  app.add_option("--shape", flags->request.shape, "one of the shapes below, or the path of a config.json")
      ->option_text("NAME|FILE")
      ->required();
  app.add_option("--out", flags->folder, "folder to write; it must be empty or not exist")
      ->option_text("DIR")
      ->required();
  app.add_option("--family", flags->request.family,
                 "where the shape leaves it open: " + fmt::format("{}", fmt::join(family_names(), " or ")))
      ->option_text("NAME")
      ->check(CLI::IsMember(family_names()));
  app.add_option("--layers", flags->request.layers, "layers; default: the shape's")
      ->option_text("N")
      ->check(CLI::Range(std::int64_t{1}, most));
  app.add_option("--experts", flags->request.experts, "experts of a layer; default: the shape's")
      ->option_text("N")
      ->check(CLI::Range(std::int64_t{1}, most));
  CLI::Option* fp8 = app.add_flag("--fp8", flags->fp8, "weights in FP8 blocks, as published; default of named shapes")
                         ->option_text(" ");
  app.add_flag("--bf16", flags->bf16, "weights in BF16")->option_text(" ")->excludes(fp8);
  app.add_option("--mtp", flags->options.mtp_layers, "prediction layers; default: none")
      ->option_text("N")
      ->check(CLI::Range(0, 16));
  app.add_option("--seed", flags->options.seed, "of the values; the same seed gives the same bytes; default: 0")
      ->option_text("N");
  app.add_flag("--sparse", flags->options.sparse, "all zeros, which take no room on the disk");
  app.footer(footer());
  return [flags] { return synth(*flags); };
}

}  // namespace millrace
