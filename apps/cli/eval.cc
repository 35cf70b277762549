#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

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

// Layers whose attention probabilities are wanted: "all" or numbers, in ascending order.
std::vector<int> attention_layers(const std::string& text, const Engine& engine) {
  const std::int64_t layers = std::ssize(engine.config().layers);
  std::set<int> wanted;
  if (text == "all")
    for (int layer = 0; layer < layers; ++layer) wanted.insert(layer);
  else
    for (const std::int32_t layer : parse_ids(text, "--attention")) {
      require(layer < layers, Errc::bad_argument, "--attention: layer {}, expected 0 to {}", layer, layers - 1);
      wanted.insert(layer);
    }
  return {wanted.begin(), wanted.end()};
}

std::string check_attention(const std::string& text) {
  return text == "all" ? "" : check_ids(text);
}

// The rows of one call.
struct EvalRows {
  EvalRows(const Engine& engine, EvalFlags& flags)
      : tokens(take_tokens(engine, flags)), positions(positions_of(flags.positions, prompt().size())) {
    positions.insert(positions.begin(), padding, 0);
    wanted = logits_rows(flags.logits, count(), flags.inputs.padding());
    LogitsRows::of(wanted).check(count());
    if (!flags.labels.empty()) labels = read_labels(flags.labels, prompt());
  }

  std::int64_t count() const { return std::ssize(tokens); }
  // Without padding.
  std::span<const std::int32_t> prompt() const { return std::span(tokens).subspan(padding); }

  std::size_t padding = 0;                      // rows in front
  std::vector<std::int32_t> tokens, positions;  // -1 where embeddings are given; padding has position 0
  std::vector<std::int32_t> wanted;             // that want logits
  std::vector<std::int32_t> labels;             // of the prompt, or none

 private:
  std::vector<std::int32_t> take_tokens(const Engine& engine, EvalFlags& flags) {
    padding = static_cast<std::size_t>(flags.inputs.padding());
    std::vector<std::int32_t> all(padding, 0);
    if (!flags.inputs.has_embeddings()) {
      const std::vector<std::int32_t> given = flags.prompt.read(engine);
      all.insert(all.end(), given.begin(), given.end());
    }
    flags.inputs.read(engine, std::ssize(all));
    all.resize(static_cast<std::size_t>(flags.inputs.rows()), -1);
    return all;
  }
};

// One call and what came of it. What there is one of per row goes to the file as it is computed.
class Evaluation {
 public:
  Evaluation(const Engine& engine, const EvalFlags& flags, const EvalRows& rows)
      : engine_(engine),
        flags_(flags),
        rows_(rows),
        trace_(engine, flags.trace, rows.count(), rows.labels.empty() ? std::ssize(rows.wanted) : rows.count()),
        load_(engine.config()),
        profile_(flags.profile) {
    if (!rows.labels.empty()) score_.emplace(rows.labels, engine.config().vocab);
    if (flags.attention.empty()) return;
    attention_.layers = attention_layers(flags.attention, engine);
  }

  void compute() {
    if (!flags_.out.empty()) begin_file();
    Session session(engine_);
    PromptProgress progress(session);
    std::vector<Observer*> wanted = {&progress, &trace_.observer(), &load_};
    if (profile_.observer() != nullptr) wanted.push_back(profile_.observer());  // last: it times the steps alone
    ObserverList observers(std::move(wanted));
    ForwardOptions options;
    options.positions = rows_.positions;
    // Labels need every row; what was asked for is taken from them.
    options.logits_rows = score_ ? LogitsRows::all() : LogitsRows::of(rows_.wanted);
    if (rows_.wanted.empty() && !score_) options.logits_rows = LogitsRows::none();
    options.take_logits = [this](std::int64_t first, std::span<const float> logits) { take_logits(first, logits); };
    options.observer = &observers;
    options.inputs = flags_.inputs.inputs();
    if (!flags_.attention.empty()) options.inputs.attention = &attention_;
    const bool embedded = flags_.inputs.has_embeddings();
    session.forward(embedded ? std::span<const std::int32_t>() : rows_.tokens, options);
    profile_.finish();
  }

  // The rest of the file.
  void write() {
    trace_.finish(rows_.tokens, rows_.positions, flags_.inputs.inputs());
    append("tokens", rows_.tokens);
    append("positions", rows_.positions);
    const std::vector<std::uint8_t>& keep = flags_.inputs.padding_mask();
    if (!keep.empty()) append("attention_mask", std::vector<std::int32_t>(keep.begin(), keep.end()));
    if (has_logits_rows()) append("logits_rows", rows_.wanted);
    for (const auto& [layer, values] : attention_.probabilities) append(probabilities_name(layer), values);
    if (score_) append("nll", std::vector<float>(score_->loss().nll.begin(), score_->loss().nll.end()));
    file_->finish();
    print_note(fmt::format("{} tokens, {} tensors in {}\n", rows_.count(), tensors_, printable(flags_.out)));
  }

  std::string report() const {
    if (flags_.perplexity.json) {
      nlohmann::ordered_json json = {{"model", model_name(engine_)}, {"tokens", rows_.count()}};
      if (score_) json["loss"] = loss_json(score_->loss());
      if (flags_.expert_stats) json["experts"] = load_json(load_);
      return json_text(json);
    }
    return (score_ ? loss_text(score_->loss()) : "") + (flags_.expert_stats ? load_text(load_) : "");
  }

 private:
  std::size_t vocab() const { return static_cast<std::size_t>(engine_.config().vocab); }
  bool has_logits_rows() const { return !rows_.wanted.empty() && std::ssize(rows_.wanted) < rows_.count(); }
  static std::string probabilities_name(int layer) { return fmt::format("layers.{}.self_attn.probs", layer); }

  void begin_file() {
    std::vector<TensorHeader> tensors = trace_.tensors();
    const auto declare = [&tensors](std::string name, Dtype dtype, std::vector<std::int64_t> shape) {
      TensorHeader& tensor = tensors.emplace_back();
      tensor.name = std::move(name);
      tensor.dtype = dtype;
      tensor.shape = std::move(shape);
    };
    const std::int64_t rows = rows_.count(), wanted = std::ssize(rows_.wanted);
    declare("tokens", Dtype::i32, {rows});
    declare("positions", Dtype::i32, {rows});
    if (!flags_.inputs.padding_mask().empty()) declare("attention_mask", Dtype::i32, {rows});
    if (wanted > 0) declare("logits", Dtype::f32, {wanted, engine_.config().vocab});
    if (has_logits_rows()) declare("logits_rows", Dtype::i32, {wanted});
    for (const int layer : attention_.layers)
      declare(probabilities_name(layer), Dtype::f32,
              {rows, engine_.config().layers[static_cast<std::size_t>(layer)].heads, rows});
    if (score_) declare("nll", Dtype::f32, {std::ssize(rows_.labels) - 1});
    tensors_ = tensors.size();
    file_ = std::make_unique<SafetensorsAssembler>(flags_.out, metadata_of(engine_, flags_), std::move(tensors));
    trace_.write_to(*file_, flags_.out);
  }

  void append(std::string_view name, const auto& values) { file_->append(name, std::as_bytes(std::span(values))); }

  void take_logits(std::int64_t first, std::span<const float> logits) {
    if (!score_) {
      if (file_) append("logits", logits);
      return;
    }
    for (; !logits.empty(); logits = logits.subspan(vocab()), ++first) {
      const std::span<const float> row = logits.first(vocab());
      if (first >= static_cast<std::int64_t>(rows_.padding)) score_->take(row);
      if (file_ && std::binary_search(rows_.wanted.begin(), rows_.wanted.end(), first)) append("logits", row);
    }
  }

  const Engine& engine_;
  const EvalFlags& flags_;
  const EvalRows& rows_;
  EvalTrace trace_;
  ExpertLoad load_;
  Profile profile_;
  AttentionRecord attention_;
  std::optional<LabelScore> score_;
  std::unique_ptr<SafetensorsAssembler> file_;
  std::size_t tensors_ = 0;  // of the file
};

// Of attention probabilities, which are held until the end.
std::uint64_t held_bytes(const Engine& engine, const EvalFlags& flags, const EvalRows& rows) {
  if (flags.attention.empty()) return 0;
  std::uint64_t heads = 0;
  for (const int layer : attention_layers(flags.attention, engine))
    heads += static_cast<std::uint64_t>(engine.config().layers[static_cast<std::size_t>(layer)].heads);
  const auto count = static_cast<std::uint64_t>(rows.count());
  return heads * count * count * sizeof(float);
}

int evaluate(EvalFlags& flags) {
  std::optional<EvalRows> rows;
  // What is given to a call, and what it is to hold, is known before memory is planned.
  if (flags.inputs.any() || !flags.attention.empty()) {
    const std::unique_ptr<Engine> headers = open_headers(flags.engine);
    rows.emplace(*headers, flags);
    flags.engine.aside = held_bytes(*headers, flags, *rows);
  }
  const std::unique_ptr<Engine> engine = open_engine(flags.engine);
  if (!rows) rows.emplace(*engine, flags);
  Evaluation evaluation(*engine, flags, *rows);
  evaluation.compute();
  if (!flags.out.empty()) evaluation.write();
  write_output(evaluation.report());
  return EXIT_SUCCESS;
}

int eval(EvalFlags& flags) {
  const bool perplexity = !flags.perplexity.file.empty();
  if (flags.out.empty() && flags.profile.empty() && !perplexity && flags.labels.empty() && !flags.expert_stats)
    usage_error("--out", "nothing is asked for: give --out, --profile, --labels, --expert-stats or --ppl");
  if (perplexity && flags.prompt.given()) usage_error("--ppl", "takes no prompt");
  if (flags.inputs.has_embeddings() && flags.prompt.given()) usage_error("--embeds", "takes no prompt");
  if (!flags.out.empty()) check_output_file("--out", flags.out);
  if (asks_for_mtp(flags.trace)) flags.engine.mtp_layers = max_mtp_layers;
  return perplexity ? print_perplexity(flags.engine, flags.perplexity) : evaluate(flags);
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
