#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/cli/eval_inputs.h"
#include "apps/cli/eval_scores.h"
#include "apps/cli/eval_trace.h"
#include "apps/common/help_pages.h"
#include "apps/common/input.h"
#include "apps/common/json_text.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "apps/common/profile.h"
#include "apps/common/progress.h"
#include "apps/common/prompt_progress.h"
#include "loader/checkpoint.h"
#include "loader/safetensors_writer.h"
#include "loader/weight_store.h"
#include "model/session.h"
#include "ops/isa.h"
#include "runtime/error.h"

namespace millrace {
namespace {

struct EvalFlags {
  EngineFlags engine;
  PromptFlags prompt;
  InputFlags inputs;
  PerplexityFlags perplexity;
  std::string positions, labels, attention;
  std::string out, profile;
  std::vector<std::string> trace;
  std::string logits = "all";
  bool expert_stats = false;
};

// "all", "last", "none", a number, or rows with a comma.
std::string check_logits(const std::string& text) {
  if (text == "all" || text == "last" || text == "none") return {};
  if (text.find(',') != std::string::npos) return check_ids(text);
  const bool digits = !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
  return digits ? "" : "'" + text + "', expected all, last, none, a number, or rows like 0,5,7";
}

// The rows of a call that want logits: of the prompt, which follows `padding`. 0 means all, as Transformers'
// logits_to_keep does.
std::vector<std::int32_t> logits_rows(const std::string& wanted, std::int64_t rows, std::int64_t padding) {
  std::vector<std::int32_t> kept;
  if (wanted.find(',') != std::string::npos) {
    for (std::int32_t row : parse_ids(wanted, "--logits")) kept.push_back(static_cast<std::int32_t>(row + padding));
    return kept;
  }
  if (wanted == "none") return kept;
  const std::int64_t tokens = rows - padding;
  const std::int64_t last = wanted == "all" ? 0 : wanted == "last" ? 1 : std::stoll(wanted);
  const std::int64_t count = last == 0 ? tokens : last;
  require(count <= tokens, Errc::bad_argument, "--logits asks for {} rows of a prompt of {} tokens", count, tokens);
  for (std::int64_t row = rows - count; row < rows; ++row) kept.push_back(static_cast<std::int32_t>(row));
  return kept;
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

// Layers whose attention probabilities are wanted: "all" or numbers.
std::vector<int> attention_layers(const std::string& text) {
  if (text == "all") return {};
  const std::vector<std::int32_t> layers = parse_ids(text, "--attention");
  return {layers.begin(), layers.end()};
}

std::string check_attention(const std::string& text) {
  return text == "all" ? "" : check_ids(text);
}

// One call and what came of it.
class Evaluation {
 public:
  Evaluation(const Engine& engine, EvalFlags& flags)
      : engine_(engine),
        flags_(flags),
        tokens_(take_tokens()),
        positions_(take_positions()),
        trace_(engine, flags.trace, rows()),
        load_(engine.config()),
        profile_(flags.profile) {
    rows_of_logits_ = logits_rows(flags.logits, rows(), flags.inputs.padding());
    if (!flags.labels.empty()) labels_ = read_labels(flags.labels, std::span(tokens_).subspan(padding()));
  }

  void compute() {
    Session session(engine_);
    PromptProgress progress(session);
    std::vector<Observer*> wanted = {&progress, &trace_.observer(), &load_};
    if (profile_.observer() != nullptr) wanted.push_back(profile_.observer());  // last: it times the steps alone
    ObserverList observers(std::move(wanted));
    ForwardOptions options;
    options.positions = positions_;
    // Labels need every row; what was asked for is taken from them.
    options.logits_rows = labels_.empty() ? LogitsRows::of(rows_of_logits_) : LogitsRows::all();
    if (rows_of_logits_.empty() && labels_.empty()) options.logits_rows = LogitsRows::none();
    options.observer = &observers;
    options.inputs = flags_.inputs.inputs();
    if (!flags_.attention.empty()) {
      attention_.layers = attention_layers(flags_.attention);
      options.inputs.attention = &attention_;
    }
    const bool embedded = flags_.inputs.has_embeddings();
    const auto logits = session.forward(embedded ? std::span<const std::int32_t>() : tokens_, options);
    if (!labels_.empty()) loss_ = loss_of_labels(logits.subspan(padding() * vocab()), labels_, engine_.config().vocab);
    take_logits(logits);
    nll_.assign(loss_.nll.begin(), loss_.nll.end());
    profile_.finish();
  }

  void write() {
    add("tokens", Dtype::i32, {rows()}, std::as_bytes(std::span(tokens_)));
    add("positions", Dtype::i32, {rows()}, std::as_bytes(std::span(positions_)));
    const std::vector<RecordedValue> traced = trace_.finish(tokens_, positions_, flags_.inputs.inputs());
    for (const RecordedValue& value : traced) add(value.name, value.dtype, value.shape, value.data);
    const std::vector<std::uint8_t>& keep = flags_.inputs.padding_mask();
    const std::vector<std::int32_t> mask(keep.begin(), keep.end());
    if (!mask.empty()) add("attention_mask", Dtype::i32, {rows()}, std::as_bytes(std::span(mask)));
    const std::int64_t kept = std::ssize(rows_of_logits_);
    if (kept > 0) add("logits", Dtype::f32, {kept, engine_.config().vocab}, std::as_bytes(std::span(logits_)));
    if (kept > 0 && kept < rows()) add("logits_rows", Dtype::i32, {kept}, std::as_bytes(std::span(rows_of_logits_)));
    for (const auto& [layer, values] : attention_.probabilities)
      add(fmt::format("layers.{}.self_attn.probs", layer), Dtype::f32,
          {rows(), std::ssize(values) / rows() / attention_.keys, attention_.keys}, std::as_bytes(std::span(values)));
    if (!nll_.empty()) add("nll", Dtype::f32, {std::ssize(nll_)}, std::as_bytes(std::span(nll_)));
    const std::size_t written = tensors_.size();
    write_safetensors(flags_.out, metadata_of(engine_, flags_), std::move(tensors_));
    print_note(fmt::format("{} tokens, {} tensors in {}\n", rows(), written, printable(flags_.out)));
  }

  std::string report() const {
    if (flags_.perplexity.json) {
      nlohmann::ordered_json json = {{"model", model_name(engine_)}, {"tokens", rows()}};
      if (!labels_.empty()) json["loss"] = loss_json(loss_);
      if (flags_.expert_stats) json["experts"] = load_json(load_);
      return json_text(json);
    }
    return (labels_.empty() ? "" : loss_text(loss_)) + (flags_.expert_stats ? load_text(load_) : "");
  }

 private:
  std::int64_t rows() const { return flags_.inputs.rows(); }
  std::size_t padding() const { return static_cast<std::size_t>(flags_.inputs.padding()); }
  std::size_t vocab() const { return static_cast<std::size_t>(engine_.config().vocab); }

  std::vector<std::int32_t> take_tokens() {
    std::vector<std::int32_t> tokens(padding(), 0);
    if (!flags_.inputs.has_embeddings()) {
      const std::vector<std::int32_t> prompt = flags_.prompt.read(engine_);
      tokens.insert(tokens.end(), prompt.begin(), prompt.end());
    }
    flags_.inputs.read(engine_, std::ssize(tokens));
    tokens.resize(static_cast<std::size_t>(rows()), -1);
    return tokens;
  }

  // Padding has position 0.
  std::vector<std::int32_t> take_positions() const {
    std::vector<std::int32_t> positions = positions_of(flags_.positions, tokens_.size() - padding());
    positions.insert(positions.begin(), padding(), 0);
    return positions;
  }

  void take_logits(std::span<const float> logits) {
    if (labels_.empty()) {
      logits_.assign(logits.begin(), logits.end());
      return;
    }
    for (std::int32_t row : rows_of_logits_) {
      require(row < rows(), Errc::bad_argument, "--logits asks for row {} of {}", row, rows());
      const auto values = logits.subspan(static_cast<std::size_t>(row) * vocab(), vocab());
      logits_.insert(logits_.end(), values.begin(), values.end());
    }
  }

  void add(std::string name, Dtype dtype, std::vector<std::int64_t> shape, std::span<const std::byte> data) {
    TensorToWrite& tensor = tensors_.emplace_back();
    tensor.name = std::move(name);
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.data = data;
  }

  const Engine& engine_;
  EvalFlags& flags_;
  std::vector<std::int32_t> tokens_, positions_, rows_of_logits_, labels_;
  EvalTrace trace_;
  ExpertLoad load_;
  Profile profile_;
  AttentionRecord attention_;
  LabelLoss loss_;
  std::vector<float> logits_, nll_;
  std::vector<TensorToWrite> tensors_;
};

int eval(EvalFlags& flags) {
  const bool perplexity = !flags.perplexity.file.empty();
  if (flags.out.empty() && flags.profile.empty() && !perplexity && flags.labels.empty() && !flags.expert_stats)
    usage_error("--out", "nothing is asked for: give --out, --profile, --labels, --expert-stats or --ppl");
  if (perplexity && flags.prompt.given()) usage_error("--ppl", "takes no prompt");
  if (flags.inputs.has_embeddings() && flags.prompt.given()) usage_error("--embeds", "takes no prompt");
  if (!flags.out.empty()) check_output_file("--out", flags.out);
  if (asks_for_mtp(flags.trace)) flags.engine.mtp_layers = max_mtp_layers;
  const std::unique_ptr<Engine> engine = open_engine(flags.engine);
  if (perplexity) return print_perplexity(*engine, flags.perplexity, flags.engine.context);
  Evaluation evaluation(*engine, flags);
  evaluation.compute();
  if (!flags.out.empty()) evaluation.write();
  write_output(evaluation.report());
  return EXIT_SUCCESS;
}

constexpr const char* more_group = "For comparisons";

// What few need is on a page of help of its own.
void add_comparison_options(CLI::App& app, EvalFlags& flags) {
  flags.inputs.add_to(app, more_group);
  app.add_option("--attention", flags.attention, "write the attention probabilities of layers: all, or 0,5")
      ->option_text("LAYERS")
      ->check(check_attention)
      ->group(more_group);
  app.add_option("--router-dtype", flags.engine.router_dtype,
                 "in what routers multiply: f32 (default), bf16, or match:\n"
                 "as moe_router_dtype in config.json says")
      ->option_text("DTYPE")
      ->check(CLI::IsMember(std::vector<std::string>{"f32", "bf16", "match"}))
      ->group(more_group);
  app.add_flag("--expert-stats", flags.expert_stats, "print how many rows each expert got")->group(more_group);
  app.add_option("--labels", flags.labels, "print the loss of labels: ids (-100: ignored), a file, or 'tokens'")
      ->option_text("1,2|F")
      ->group(more_group);
  app.add_option("--ppl", flags.perplexity.file, "print the perplexity of a text, in windows of --ctx tokens")
      ->option_text("F")
      ->group(more_group);
  app.add_option("--stride", flags.perplexity.stride, "tokens from window to window; default: half a window")
      ->option_text("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->group(more_group);
  app.add_flag("--json", flags.perplexity.json, "print JSON")->group(more_group);
}

}  // namespace

Run declare_eval(CLI::App& app) {
  const auto flags = std::make_shared<EvalFlags>();
  add_help_pages(app, more_group, "masks, embeddings, forced experts, losses, perplexity",
                 "millrace eval --ppl book.txt --ctx 512 --stride 256");
  flags->prompt.add_to(app);
  app.add_option("--positions", flags->positions, "a position per token, or the first one; default: 0")
      ->option_text("5,6,7|START")
      ->check(check_ids);
  app.add_option("--out", flags->out, "the safetensors file to write")->option_text("F");
  app.add_option("--trace", flags->trace, "step outputs to write: all, or names, with * for anything")
      ->option_text("NAME,...")
      ->delimiter(',');
  app.add_option("--logits", flags->logits, "logits of which rows: all (default), last, none, the last N, or 0,5,7")
      ->option_text("ROWS")
      ->check(check_logits);
  app.add_option("--profile", flags->profile, "time every step; a Chrome trace, its sums on standard error")
      ->option_text("F");
  app.add_option("--chunk", flags->engine.chunk, "tokens per pass; results do not depend on it")
      ->option_text("N")
      ->check(CLI::Range(1, 1 << 20));
  add_engine_options(app, flags->engine);
  add_comparison_options(app, *flags);
  app.footer("Example: millrace eval --tokens 1,2,3 --trace all --out dump.safetensors");
  return [flags] { return eval(*flags); };
}

}  // namespace millrace
