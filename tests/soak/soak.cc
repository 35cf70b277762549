// Soak: requests of all sorts against a model that is larger than its budget, for minutes or hours, in one process.
//   soak SECONDS [FOLDER MEMORY_MIB]
// Without a folder small ones of both families are written. Each kind of request gives the same bits every time, the
// process keeps to the plan, and after the first rounds its open files do not grow, nor does its memory after the first
// third of a run of minutes. Exit code 0 if so; a line a minute.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>

#include "model/engine.h"
#include "model/generate.h"
#include "runtime/clock.h"
#include "runtime/error.h"
#include "runtime/machine.h"
#include "tests/support/random.h"
#include "tests/support/streamed_model.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t context = 512;
// Pages of sessions come by the megabytes, and not at the same time in each round.
constexpr std::uint64_t allowed_growth = 6 << 20;

std::ptrdiff_t open_files() {
  return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
}

// One model under its budget.
class Soak {
 public:
  Soak(const fs::path& folder, std::uint64_t memory)
      : engine_(Engine::open(folder, {.memory = memory, .sessions = 2, .context = context, .mtp_layers = 2})),
        session_(*engine_) {
    require(engine_->expert_stats().has_value(), Errc::bad_argument, "{} fits into {} bytes", folder.string(), memory);
  }

  static constexpr int least_rounds = 20;  // each kind twice

  // A request of some kind, by chance.
  void round() {
    const auto kind = static_cast<std::uint64_t>(rounds_ < least_rounds ? rounds_ % kinds : random_.below(kinds));
    const std::vector<std::int32_t> ids = request(kind);
    const auto [first, fresh] = expected_.try_emplace(kind, ids);
    require(fresh || first->second == ids, Errc::bad_argument, "request {} gives other tokens in round {}", kind,
            rounds_);
    ++rounds_;
  }

  // After each round; `settling` while memory may still grow, below the plan.
  void check(bool settling) {
    const std::uint64_t memory = resident_memory();
    require(static_cast<double>(memory) <= 1.02 * static_cast<double>(engine_->plan().total()), Errc::out_of_memory,
            "{} bytes resident, {} planned", memory, engine_->plan().total());
    if (settling) settled_memory_ = std::max(settled_memory_, memory);
    require(memory <= settled_memory_ + allowed_growth, Errc::out_of_memory, "{} bytes resident, {} before", memory,
            settled_memory_);
    if (rounds_ == least_rounds) files_ = open_files();
    require(rounds_ < least_rounds || open_files() == files_, Errc::io, "{} open files, {} after the first rounds",
            open_files(), files_);
  }

  void report(double seconds) const {
    const ExpertCacheStats stats = *engine_->expert_stats();
    std::printf("%6.0f s  %6d rounds  %.1f MB resident (%.1f at most before, %.1f planned)  %td files  %.1f GB read\n",
                seconds, rounds_, static_cast<double>(resident_memory()) / 1e6,
                static_cast<double>(settled_memory_) / 1e6, static_cast<double>(engine_->plan().total()) / 1e6,
                open_files(), static_cast<double>(stats.bytes_read) / 1e9);
    std::fflush(stdout);
  }
  int rounds() const noexcept { return rounds_; }

 private:
  static constexpr int kinds = 10;

  std::vector<std::int32_t> prompt(std::uint64_t seed, std::int64_t tokens) const {
    test::Random random(seed);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
    for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.below(engine_->config().vocab));
    return ids;
  }

  // The drawn tokens; the first logits decide all of them.
  std::vector<std::int32_t> request(std::uint64_t kind) {
    const std::vector<std::int32_t> all = prompt(kind, kind % 5 == 0 ? 300 : 20 + 10 * static_cast<std::int64_t>(kind));
    GenerateOptions options{.max_tokens = 12, .ignore_eos = true};
    if (kind == 9) {  // given up in the middle, before the real one
      int steps = 0;
      options.interrupted = [&steps] { return ++steps == 17; };
      session_.clear();
      generate(session_, all, options, {});
      options.interrupted = nullptr;
    }
    if (kind % 3 == 0) {
      const fs::path file = folder_.path() / "session.kv";
      session_.save(file);
      session_.load(file);
    }
    const std::int64_t kept = session_.length() > 0 ? session_.keep_beginning_of(all) : 0;
    const auto rest = std::span(all).subspan(static_cast<std::size_t>(kept));
    if (kind % 4 != 1) return generate(session_, rest, options, {}).ids;
    Session other(*engine_);
    return generate(other, all, options, {}).ids;
  }

  std::unique_ptr<Engine> engine_;
  Session session_;
  test::TempFolder folder_;
  test::Random random_{1};
  std::map<std::uint64_t, std::vector<std::int32_t>> expected_;
  int rounds_ = 0;
  std::uint64_t settled_memory_ = 0;
  std::ptrdiff_t files_ = 0;
};

void run(const fs::path& folder, std::uint64_t memory, double seconds) {
  Soak soak(folder, memory);
  const Clock::time_point start = Clock::now();
  for (double next = 0; seconds_since(start) < seconds || soak.rounds() < Soak::least_rounds + 10;) {
    soak.round();
    soak.check(/*settling=*/seconds < 300 || seconds_since(start) < seconds / 3 ||
               soak.rounds() < 3 * Soak::least_rounds);
    if (seconds_since(start) < next) continue;
    soak.report(seconds_since(start));
    next += 60;
  }
  soak.report(seconds_since(start));
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  using namespace millrace;
  if (argc != 2 && argc != 4) {
    std::fprintf(stderr, "soak SECONDS [FOLDER MEMORY_MIB]\n");
    return 2;
  }
  const double seconds = std::atof(argv[1]);
  constexpr std::uint64_t mebi = std::uint64_t{1} << 20;
  try {
    if (argc == 4) {
      run(argv[2], std::strtoull(argv[3], nullptr, 10) * mebi, seconds);
      return 0;
    }
    for (const char* shape : {"mimo-reduced", "minimax-reduced"}) {
      const test::TempFolder folder;
      run(test::write_streamed_model(folder.path(), shape), 160 * mebi, seconds / 2);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "soak: %s\n", error.what());
    return 1;
  }
}
