#include <filesystem>
#include <limits>
#include <memory>

#include "apps/cli/command.h"
#include "apps/common/dump.h"
#include "apps/common/input.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "apps/common/progress.h"
#include "loader/checkpoint.h"
#include "loader/safetensors_writer.h"
#include "model/session.h"
#include "ops/isa.h"
#include "runtime/error.h"
#include "runtime/step_recorder.h"

namespace millrace {
namespace {

struct EvalFlags {
  EngineFlags engine;
  PromptFlags prompt;
  std::string positions;
  std::string out;
  std::vector<std::string> trace;
  std::string logits = "all";
};

// "all", "last" or a number.
std::string check_logits(const std::string& text) {
  if (text == "all" || text == "last") return {};
  const bool digits = !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
  return digits ? "" : "'" + text + "', expected all, last or a number";
}

std::int64_t logits_rows(const std::string& wanted, std::int64_t tokens) {
  if (wanted == "all") return tokens;
  const std::int64_t rows = wanted == "last" ? 1 : std::stoll(wanted);
  require(rows <= tokens, Errc::bad_argument, "--logits asks for {} rows of a prompt of {} tokens", rows, tokens);
  return rows;
}

// A list as long as the prompt, or the first position; empty counts from 0.
std::vector<std::int32_t> positions_of(const std::string& text, std::size_t tokens) {
  std::vector<std::int32_t> positions(tokens);
  const std::vector<std::int32_t> given = parse_ids(text, "--positions");
  require(given.size() <= 1 || given.size() == tokens, Errc::bad_argument,
          "--positions holds {} numbers for {} tokens, expected as many, or one to start from", given.size(), tokens);
  if (given.size() == tokens) return given;
  std::int64_t next = given.empty() ? 0 : given[0];
  for (std::int32_t& position : positions) {
    require(next <= std::numeric_limits<std::int32_t>::max(), Errc::bad_argument, "--positions: {} is too large", next);
    position = static_cast<std::int32_t>(next++);
  }
  return positions;
}

// Before anything is computed: whether the file can be made at all.
void check_out(const std::filesystem::path& out) {
  std::error_code failure;
  const auto status = std::filesystem::status(out, failure);
  require(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), Errc::bad_argument,
          "--out: {} is there and no regular file", out.string());
  const std::filesystem::path folder = out.has_parent_path() ? out.parent_path() : std::filesystem::path(".");
  require(std::filesystem::is_directory(folder, failure), Errc::not_found, "--out: {} is no folder", folder.string());
}

SafetensorsMetadata metadata_of(const Engine& engine, const EvalFlags& flags) {
  const Checkpoint& checkpoint = engine.checkpoint();
  std::string recipe = "bf16", note = "rounds to bf16 where Transformers rounds";
  if (engine.numerics() == Numerics::f32) {
    recipe = "f32";
    note = "FP8 weights as fp32(code)*scale";
  } else if (engine.numerics() == Numerics::fast) {
    recipe = checkpoint.holds(Dtype::f8_e4m3) ? "w8a16-block128" : "bf16";
    note = "bf16 operands, float32 sums and float32 between the operators";
  } else if (quantizes_inputs(engine.numerics())) {
    recipe = "w8a8-block128";
    note = fmt::format("inputs of F8 weights quantized with scales {}, everything else in {}",
                       has_power_of_two_scales(engine.numerics()) ? "rounded up to powers of two" : "in float32",
                       rounds_as_hf(engine.numerics()) ? "bfloat16" : "float32");
  }
  if (flags.engine.window > 0) note += fmt::format("; {} visible keys on sliding layers", flags.engine.window);
  return {{"format", "millrace-dump-1"},
          {"producer", "millrace"},
          {"producer_version", MILLRACE_VERSION},
          {"recipe", recipe},
          {"device", fmt::format("cpu {}", name_of(active_isa()))},
          {"attention", "grouped-query"},
          {"config_sha256", checkpoint.config_sha256()},
          {"model_name", model_name(engine)},
          {"note", note}};
}

template <class T>
TensorToWrite tensor_to_write(std::string name, Dtype dtype, std::vector<std::int64_t> shape, std::span<const T> data) {
  TensorToWrite tensor;
  tensor.name = std::move(name);
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.data = std::as_bytes(data);
  return tensor;
}

int eval(const EvalFlags& flags) {
  check_out(flags.out);
  const std::unique_ptr<Engine> engine = open_engine(flags.engine);
  const std::vector<std::int32_t> tokens = flags.prompt.read(*engine);
  const std::int64_t count = std::ssize(tokens), kept = logits_rows(flags.logits, count);
  const std::vector<std::int32_t> positions = positions_of(flags.positions, tokens.size());
  StepRecorder dump(engine->program(), select_values(engine->program(), flags.trace), count);

  Session session(*engine);
  ForwardOptions options;
  options.positions = positions;
  options.logits_rows = kept;
  options.observer = &dump;
  const std::span<const float> logits = session.forward(tokens, options);

  std::vector<TensorToWrite> tensors;
  tensors.push_back(tensor_to_write<std::int32_t>("tokens", Dtype::i32, {count}, tokens));
  tensors.push_back(tensor_to_write<std::int32_t>("positions", Dtype::i32, {count}, positions));
  for (const RecordedValue& value : dump.values())
    tensors.push_back(tensor_to_write<std::byte>(value.name, value.dtype, value.shape, value.data));
  std::vector<std::int32_t> rows(static_cast<std::size_t>(kept));
  for (std::int64_t i = 0; i < kept; ++i)
    rows[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(count - kept + i);
  if (kept > 0) tensors.push_back(tensor_to_write<float>("logits", Dtype::f32, {kept, engine->config().vocab}, logits));
  if (kept > 0 && kept < count)
    tensors.push_back(tensor_to_write<std::int32_t>("logits_rows", Dtype::i32, {kept}, rows));
  const std::size_t written = tensors.size();
  write_safetensors(flags.out, metadata_of(*engine, flags), std::move(tensors));
  print_note(fmt::format("{} tokens, {} tensors in {}\n", count, written, printable(flags.out)));
  return EXIT_SUCCESS;
}

}  // namespace

Run declare_eval(CLI::App& app) {
  const auto flags = std::make_shared<EvalFlags>();
  flags->prompt.add_to(app);
  app.add_option("--positions", flags->positions, "a position per token, or the first one; default: 0")
      ->option_text("5,6,7|START")
      ->check(check_ids);
  app.add_option("--out", flags->out, "the safetensors file to write")->option_text("F")->required();
  app.add_option("--trace", flags->trace, "step outputs to write: all, or names, with * for anything")
      ->option_text("NAME,...")
      ->delimiter(',');
  app.add_option("--logits", flags->logits, "logits of which rows: all (default), last, or the last N")
      ->option_text("ROWS")
      ->check(check_logits);
  app.add_option("--chunk", flags->engine.chunk, "tokens per pass; results do not depend on it")
      ->option_text("N")
      ->check(CLI::Range(1, 1 << 20));
  add_engine_options(app, flags->engine);
  app.footer("Example: millrace eval --tokens 1,2,3 --trace all --out dump.safetensors");
  return [flags] { return eval(*flags); };
}

}  // namespace millrace
