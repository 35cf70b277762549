#include "apps/cli/eval_scores.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/common/input.h"
#include "apps/common/json_text.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "apps/common/progress.h"
#include "loader/tokenizer.h"
#include "model/engine.h"
#include "runtime/error.h"

namespace millrace {

std::vector<std::int32_t> read_labels(const std::string& text, std::span<const std::int32_t> tokens) {
  std::vector<std::int32_t> labels;
  if (text == "tokens")
    labels.assign(tokens.begin(), tokens.end());
  else if (text.find_first_not_of("-0123456789, []") == std::string::npos)
    labels = parse_ids(text, "--labels", ignored_label);
  else
    labels = parse_ids(read_input(text), text, ignored_label);
  require(labels.size() == tokens.size(), Errc::bad_argument, "--labels: {} labels for {} tokens, expected as many",
          labels.size(), tokens.size());
  require(labels.size() > 1, Errc::bad_argument, "--labels: the first token is predicted by nothing, expected more");
  return labels;
}

std::string loss_text(const LabelLoss& loss) {
  return fmt::format("loss {:.5f} +/- {:.5f}, perplexity {:.4f} ({} tokens)\n", loss.sum.mean(),
                     loss.sum.standard_error(), loss.sum.perplexity(), loss.sum.tokens());
}

nlohmann::ordered_json loss_json(const LabelLoss& loss) {
  return {{"tokens", loss.sum.tokens()},
          {"loss", loss.sum.mean()},
          {"loss_standard_error", loss.sum.standard_error()},
          {"perplexity", loss.sum.perplexity()},
          {"nll", loss.nll}};
}

std::string load_text(const ExpertLoad& load) {
  std::string text;
  for (const auto& [layer, counts] : load.counts()) {
    const auto busiest = std::max_element(counts.begin(), counts.end());
    const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    text += fmt::format("layer {:3}: {} of {} experts used, busiest {} with {} rows (even: {:.1f})\n", layer,
                        std::count_if(counts.begin(), counts.end(), [](std::int64_t rows) { return rows > 0; }),
                        counts.size(), busiest - counts.begin(), *busiest,
                        static_cast<double>(total) / static_cast<double>(counts.size()));
  }
  return text;
}

nlohmann::ordered_json load_json(const ExpertLoad& load) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [layer, counts] : load.counts()) json[std::to_string(layer)] = counts;
  return json;
}

int print_perplexity(const EngineFlags& engine_flags, const PerplexityFlags& flags) {
  // The text may be large: it is there before memory is planned.
  const std::vector<std::int32_t> tokens =
      open_headers(engine_flags)->tokenizer().encode(read_input(flags.file), {.add_special_tokens = true});
  const std::unique_ptr<Engine> opened = open_engine(engine_flags);
  const Engine& engine = *opened;
  require(tokens.size() >= 2, Errc::bad_argument, "{}: {} tokens, expected at least 2", flags.file, tokens.size());
  ProgressBar bar("Computing", ProgressBar::Unit::tokens);
  PerplexityOptions options{.window = engine_flags.context, .stride = flags.stride, .progress = {}};
  options.progress = [&bar](std::int64_t done, std::int64_t total) {
    bar.update(static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(total));
  };
  const Perplexity result = perplexity(engine, tokens, options);
  bar.clear();
  const LossSum& loss = result.loss;
  if (flags.json)
    write_output(json_text({{"model", model_name(engine)},
                            {"file", flags.file},
                            {"tokens", loss.tokens()},
                            {"loss", loss.mean()},
                            {"loss_standard_error", loss.standard_error()},
                            {"perplexity", loss.perplexity()},
                            {"perplexity_standard_error", loss.perplexity_error()},
                            {"window", result.window},
                            {"stride", result.stride},
                            {"windows", result.windows}}));
  else
    write_output(fmt::format("perplexity {:.4f} +/- {:.4f} ({} tokens, {} windows of {}, stride {})\n",
                             loss.perplexity(), loss.perplexity_error(), loss.tokens(), result.windows, result.window,
                             result.stride));
  return EXIT_SUCCESS;
}

}  // namespace millrace
