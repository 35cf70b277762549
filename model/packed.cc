#include "model/packed.h"

#include <algorithm>
#include <map>

#include "model/executor.h"
#include "runtime/error.h"
#include "runtime/observer.h"

namespace millrace {
namespace {

struct Sequence {
  std::vector<std::int32_t> tokens, positions;
  std::vector<std::size_t> rows;  // of each token in the pack
};

// In the order in which they begin.
std::vector<Sequence> unpack(std::span<const std::int32_t> tokens, std::span<const std::int32_t> ids,
                             std::span<const std::int32_t> positions) {
  std::vector<Sequence> sequences;
  std::map<std::int32_t, std::size_t> index_of;
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    const auto [found, added] = index_of.emplace(ids[row], sequences.size());
    if (added) sequences.emplace_back();
    Sequence& sequence = sequences[found->second];
    sequence.tokens.push_back(tokens[row]);
    if (!positions.empty()) sequence.positions.push_back(positions[row]);
    sequence.rows.push_back(row);
  }
  return sequences;
}

// Sequences that are computed at the same time, and where their rows belong.
class Group final : public Observer {
 public:
  Group(const std::shared_ptr<Executor>& executor, std::span<const Sequence> sequences, PackedResult& result)
      : sequences_(sequences), result_(result) {
    sessions_.reserve(sequences.size());
    for (std::size_t i = 0; i < sequences.size(); ++i) sessions_.emplace_back(executor);
  }

  // The rows of the final norm, before the pass is over and the caches grow.
  void after(const Program&, const Step& step, const StepContext& context) override {
    if (result_.hidden.empty() || step.name != "norm") return;
    for (const Batch::Run& run : context.batch.runs) {
      const auto session = std::find_if(sessions_.begin(), sessions_.end(),
                                        [&run](const Session& each) { return &each.cache() == run.cache; });
      const Sequence& sequence = sequences_[static_cast<std::size_t>(session - sessions_.begin())];
      const std::int64_t hidden = session->engine().config().hidden;
      for (std::int64_t row = run.begin; row < run.end; ++row)
        std::copy_n(context.output(0) + row * hidden, hidden,
                    row_of(result_.hidden, hidden, sequence, run.cache->length() + row - run.begin));
    }
  }

  void compute(Executor& executor, const PackedOptions& options) {
    std::vector<SessionStep> steps;
    for (std::size_t i = 0; i < sessions_.size(); ++i) {
      const Sequence& sequence = sequences_[i];
      const std::int64_t logits_rows = options.logits ? std::ssize(sequence.tokens) : 0;
      const std::int64_t vocab = executor.engine().config().vocab;
      const auto take = [this, &sequence, vocab](std::int64_t row, std::span<const float> logits) {
        for (; !logits.empty(); logits = logits.subspan(static_cast<std::size_t>(vocab)))
          std::copy_n(logits.data(), vocab, row_of(result_.logits, vocab, sequence, row++));
      };
      steps.push_back({.session = &sessions_[i],
                       .tokens = sequence.tokens,
                       .options = {.positions = sequence.positions, .logits_rows = logits_rows, .take_logits = take}});
    }
    executor.forward(steps, {.chunk = options.chunk, .observer = this});
  }

 private:
  static float* row_of(std::vector<float>& values, std::int64_t width, const Sequence& sequence, std::int64_t row) {
    return values.data() + static_cast<std::int64_t>(sequence.rows[static_cast<std::size_t>(row)]) * width;
  }

  std::span<const Sequence> sequences_;
  std::vector<Session> sessions_;
  PackedResult& result_;
};

}  // namespace

PackedResult forward_packed(const std::shared_ptr<Executor>& executor, std::span<const std::int32_t> tokens,
                            std::span<const std::int32_t> sequence_ids, const PackedOptions& options) {
  const Engine& engine = executor->engine();
  require(!tokens.empty(), Errc::bad_argument, "a pack of no tokens");
  require(sequence_ids.size() == tokens.size(), Errc::bad_argument, "{} sequence ids for {} tokens",
          sequence_ids.size(), tokens.size());
  require(options.positions.empty() || options.positions.size() == tokens.size(), Errc::bad_argument,
          "{} positions for {} tokens", options.positions.size(), tokens.size());
  const std::vector<Sequence> sequences = unpack(tokens, sequence_ids, options.positions);
  PackedResult result;
  if (options.logits) result.logits.resize(tokens.size() * static_cast<std::size_t>(engine.config().vocab));
  if (options.hidden) result.hidden.resize(tokens.size() * static_cast<std::size_t>(engine.config().hidden));
  // As many sequences at a time as fill a pass: each takes a cache.
  for (std::size_t begin = 0, end = 0; begin < sequences.size(); begin = end) {
    std::int64_t rows = 0;
    while (end < sequences.size() && (rows == 0 || rows + std::ssize(sequences[end].tokens) <= engine.chunk()))
      rows += std::ssize(sequences[end++].tokens);
    Group(executor, std::span(sequences).subspan(begin, end - begin), result).compute(*executor, options);
  }
  return result;
}

}  // namespace millrace
