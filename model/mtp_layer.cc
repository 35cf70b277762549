#include "model/mtp_layer.h"

#include <algorithm>

#include "loader/checkpoint.h"
#include "runtime/error.h"
#include "runtime/run_inputs.h"

namespace millrace {
namespace {

constexpr std::int64_t rows_at_once = 64;  // all of them want logits

// A mask may show a row nothing but the last keys of the sequence, which only the main model has.
void require_keys(const LayerSpec& layer, const RunInputs& run, int index, std::int64_t rows) {
  const KeyMask& mask = layer.window > 0 ? run.sliding_mask : run.full_mask;
  if (layer.sinks || !mask.replaces()) return;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::int64_t key = 0;
    while (key < rows && !mask.sees(row, key)) ++key;
    require(key < rows || (run.inactive != nullptr && run.inactive[row] != 0), Errc::bad_argument,
            "attention mask: row {} sees none of the {} keys of prediction layer {}, where its result is not defined",
            row, rows, index);
  }
}

}  // namespace

MtpLayer::MtpLayer(const Engine& engine, const Program& program, std::int64_t rows, std::int64_t logits_rows)
    : engine_(engine),
      program_(program),
      hidden_(program_.inputs()[0]),
      output_(program_.kept()[0]),
      logits_(program_.steps().back().outputs[0]),
      cache_(program_.kv_layers(), engine.kv_dtype(), engine.context()),
      workspace_(program_, {.rows = rows, .logits_rows = logits_rows, .threads = engine.parallel().threads()}) {
  batch_.tokens.reserve(static_cast<std::size_t>(rows));
  batch_.positions.reserve(static_cast<std::size_t>(rows));
  batch_.logits_rows.reserve(static_cast<std::size_t>(logits_rows));
  batch_.runs.reserve(1);
}

std::span<const float> MtpLayer::forward(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions,
                                         std::int64_t logits_rows, Observer* observer, const RunInputs* inputs) {
  engine_.check_files();
  const std::int64_t rows = std::ssize(tokens);
  batch_.tokens.assign(tokens.begin(), tokens.end());
  batch_.positions.assign(positions.begin(), positions.end());
  batch_.runs.assign(1, {.cache = &cache_, .begin = 0, .end = rows, .inputs = inputs});
  batch_.logits_rows.clear();
  for (std::int64_t row = rows - logits_rows; row < rows; ++row)
    batch_.logits_rows.push_back(static_cast<std::int32_t>(row));
  program_.run(batch_, workspace_, engine_.parallel(), observer);
  return {reinterpret_cast<const float*>(workspace_.data(logits_)),
          static_cast<std::size_t>(logits_rows * engine_.config().vocab)};
}

void MtpLayer::truncate(std::int64_t rows) {
  rows = std::clamp<std::int64_t>(rows, 0, length());
  cache_.truncate(cache_.can_truncate(rows) ? rows : 0);
}

void run_mtp_layer(const Engine& engine, int index, std::span<const std::int32_t> tokens,
                   std::span<const std::int32_t> positions, const HiddenRows& hidden, const TakeLogits& take,
                   Observer* observer, const ForwardInputs& inputs) {
  const std::int64_t rows = std::max<std::int64_t>(std::ssize(tokens) - 1 - index, 0);
  require(index >= 0 && index < std::ssize(engine.mtp_programs()), Errc::bad_argument,
          "prediction layer {}, but {} are loaded", index, engine.mtp_programs().size());
  require(positions.size() == tokens.size(), Errc::bad_argument, "{} positions for {} tokens", positions.size(),
          tokens.size());
  if (rows == 0) return;
  // What else a call brings is not for these layers.
  const ForwardInputs own = {.embeddings = inputs.embeddings, .padding = inputs.padding, .masks = inputs.masks};
  CallInputs given(engine, own, 0, std::ssize(tokens));
  const std::int64_t pass = given.one_pass() ? rows : std::min({rows, engine.chunk(), rows_at_once});
  const WorkspaceLimits limits = {.rows = pass, .logits_rows = pass, .threads = engine.parallel().threads()};
  const Program& program = engine.mtp_programs()[static_cast<std::size_t>(index)];
  if (given.one_pass()) engine.plan().check_pass(pass, Buffer::footprint(Workspace::bytes_for(program, limits)));
  MtpLayer layer(engine, program, pass, pass);
  for (std::int64_t begin = 0; begin < rows; begin += pass) {
    const std::int64_t count = std::min(pass, rows - begin);
    hidden(begin, count, layer.hidden());
    RunInputs run = given.of_rows(begin);
    if (run.embeddings != nullptr) run.embeddings += (1 + index) * engine.config().hidden;
    require_keys(engine.config().mtp_layer, run, index, rows);
    const auto first = static_cast<std::size_t>(begin), size = static_cast<std::size_t>(count);
    const auto logits = layer.forward(tokens.subspan(first + 1 + static_cast<std::size_t>(index), size),
                                      positions.subspan(first, size), count, observer, &run);
    if (take) take(logits);
  }
}

std::vector<float> mtp_logits(const Engine& engine, int index, std::span<const std::int32_t> tokens,
                              std::span<const std::int32_t> positions, std::span<const float> hidden,
                              Observer* observer, const ForwardInputs& inputs) {
  const std::int64_t width = engine.config().hidden;
  require(std::ssize(hidden) == std::ssize(tokens) * width, Errc::bad_argument,
          "{} hidden values for {} tokens, expected {} each", hidden.size(), tokens.size(), width);
  std::vector<float> logits;
  run_mtp_layer(
      engine, index, tokens, positions,
      [&](std::int64_t first, std::int64_t rows, float* target) {
        std::copy_n(hidden.data() + first * width, rows * width, target);
      },
      [&](std::span<const float> part) { logits.insert(logits.end(), part.begin(), part.end()); }, observer, inputs);
  return logits;
}

}  // namespace millrace
