#include "model/executor.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "loader/checkpoint.h"
#include "runtime/error.h"
#include "runtime/observer.h"

namespace millrace {

Executor::Executor(const Engine& engine) : engine_(engine), workspace_(engine.program(), engine.workspace_limits()) {}

void Executor::prepare(std::span<const SessionStep> steps, std::size_t index, std::int64_t chunk) {
  try {
    const SessionStep& step = steps[index];
    require(step.session != nullptr, Errc::bad_argument, "no session");
    require(&step.session->engine() == &engine_, Errc::bad_argument, "a session of another engine");
    for (std::size_t earlier = 0; earlier < index; ++earlier)
      require(steps[earlier].session != step.session, Errc::bad_argument, "the session of request {} once more",
              earlier);
    require(step.options.chunk == 0 && step.options.observer == nullptr && !step.options.progress, Errc::bad_argument,
            "chunk, observer and progress are options of the pass, not of a request");
    step.session->prepare(step.tokens, step.options, chunk);
  } catch (const Error& error) {
    if (steps.size() == 1) throw;
    fail(error.code(), "request {}: {}", index, error.what());
  }
}

void Executor::forward(std::span<const SessionStep> steps, const PassOptions& options) {
  require(!steps.empty(), Errc::bad_argument, "a pass over no sessions");
  std::size_t prepared = 0;
  try {
    for (; prepared < steps.size(); ++prepared) prepare(steps, prepared, options.chunk);
    for (const SessionStep& step : steps) step.session->begin(step.tokens, step.options.positions);
    compute(steps, options);
  } catch (...) {
    for (const SessionStep& step : steps.first(prepared)) step.session->roll_back();
    throw;
  }
  for (const SessionStep& step : steps) step.session->commit();
}

void Executor::compute(std::span<const SessionStep> steps, const PassOptions& options) {
  const std::int64_t chunk = options.chunk > 0 ? std::min(options.chunk, engine_.chunk()) : engine_.chunk();
  while (fill_batch(steps, chunk)) {
    engine_.check_files();
    make_room();
    run_pass(options);
    tell_drafters();
    if (!options.progress) continue;
    std::int64_t done = 0;
    for (const SessionStep& step : steps)
      done += std::max<std::int64_t>(0, step.session->cache_.length() - step.session->call_->held);
    options.progress(done);
  }
}

// Packs rows that the caches still lack, about `chunk` of them at most; false if there are none.
bool Executor::fill_batch(std::span<const SessionStep> steps, std::int64_t chunk) {
  batch_.tokens.clear();
  batch_.positions.clear();
  batch_.runs.clear();
  wanted_rows_.clear();
  parts_.clear();
  for (const SessionStep& step : steps)
    if (const std::int64_t rows = rows_that_fit(*step.session, chunk); rows > 0) add_part(*step.session, rows);
  return !parts_.empty();
}

// How many of the rows that the session's cache lacks join the batch.
std::int64_t Executor::rows_that_fit(const Session& session, std::int64_t chunk) const noexcept {
  const std::int64_t begin = session.cache_.length(), held = session.call_->held;
  const auto& inputs = session.call_->inputs;
  if (begin >= held && inputs && inputs->one_pass()) {
    const std::int64_t rows = session.length() - begin;
    return batch_.tokens.empty() || batch_.rows() + rows <= chunk ? rows : 0;
  }
  // Rows that are computed again do not share a run with new ones, which may have inputs of their own.
  return std::min((begin < held ? held : session.length()) - begin, chunk - batch_.rows());
}

void Executor::add_part(Session& session, std::int64_t rows) {
  Session::Call& call = *session.call_;
  const std::int64_t first = batch_.rows(), begin = session.cache_.length();
  const bool is_new = begin >= call.held;
  const auto append = [begin, rows](std::vector<std::int32_t>& target, const std::vector<std::int32_t>& source) {
    target.insert(target.end(), source.begin() + begin, source.begin() + begin + rows);
  };
  append(batch_.tokens, session.tokens_);
  append(batch_.positions, session.positions_);
  batch_.runs.push_back({.cache = &session.cache_,
                         .begin = first,
                         .end = first + rows,
                         .inputs = is_new && call.inputs ? &call.inputs->of_rows(begin - call.held) : nullptr});
  Part& part = parts_.emplace_back(Part{.session = &session, .begin = begin, .rows = rows});
  for (; is_new && call.logits_done < call.logits_rows.count(call.rows); ++call.logits_done, ++part.logits_rows) {
    const std::int64_t row = call.held + call.logits_rows.row(call.logits_done, call.rows) - begin;
    if (row >= rows) break;
    wanted_rows_.push_back(static_cast<std::int32_t>(first + row));
  }
}

// The workspace grows to what a pass needs, if that is within the plan, and stays.
void Executor::make_room() {
  WorkspaceLimits limits = workspace_.limits();
  if (batch_.rows() <= limits.rows) return;
  limits.rows = batch_.rows();
  const std::uint64_t bytes = Buffer::footprint(Workspace::bytes_for(engine_.program(), limits));
  engine_.plan().check_pass(limits.rows, bytes);
  workspace_ = Workspace(engine_.program(), limits);
}

// Logits come in blocks of so many rows as the workspace has room for.
void Executor::run_pass(const PassOptions& options) {
  const Parallel& parallel = options.parallel != nullptr ? *options.parallel : engine_.parallel();
  const std::int64_t wanted = std::ssize(wanted_rows_), most = workspace_.limits().logits_rows;
  for (std::int64_t first = 0; first == 0 || first < wanted; first += most) {
    const std::int64_t count = std::min(most, wanted - first);
    batch_.logits_rows.assign(wanted_rows_.begin() + first, wanted_rows_.begin() + first + count);
    if (first == 0)
      engine_.program().run(batch_, workspace_, parallel, options.observer);
    else
      engine_.program().run_logits(batch_, workspace_, parallel, options.observer);
    give_logits(first, count);
  }
}

// Prediction layers want the main model's hidden states.
void Executor::tell_drafters() {
  if (engine_.mtp_programs().empty()) return;
  const auto* hidden = reinterpret_cast<const float*>(workspace_.data(engine_.program().kept()[0]));
  for (const Part& part : parts_) {
    const std::span positions(part.session->positions_.data() + part.begin, static_cast<std::size_t>(part.rows));
    part.session->drafter_->take(part.begin, positions, hidden);
    hidden += part.rows * engine_.config().hidden;
  }
}

// To their sessions, or who wants them: those of `count` of the pass's wanted rows from `first` on.
void Executor::give_logits(std::int64_t first, std::int64_t count) {
  const std::int64_t vocab = engine_.config().vocab;
  const auto* logits = reinterpret_cast<const float*>(workspace_.data(engine_.program().steps().back().outputs[0]));
  std::int64_t end_of_part = 0;  // among the wanted rows
  for (const Part& part : parts_) {
    const std::int64_t begin_of_part = std::exchange(end_of_part, end_of_part + part.logits_rows);
    const std::int64_t begin = std::max(begin_of_part, first), end = std::min(end_of_part, first + count);
    if (begin >= end) continue;
    const Session::Call& call = *part.session->call_;
    const std::int64_t place = call.logits_done - part.logits_rows + begin - begin_of_part;
    const std::span rows(logits + (begin - first) * vocab, static_cast<std::size_t>((end - begin) * vocab));
    if (call.take_logits != nullptr)
      (*call.take_logits)(place, rows);
    else
      std::memcpy(part.session->logits_.data() + place * vocab, rows.data(), rows.size_bytes());
  }
}

}  // namespace millrace
