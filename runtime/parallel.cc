#include "runtime/parallel.h"

#include <sched.h>

#ifdef MILLRACE_OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <latch>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/error.h"
#include "runtime/float_mode.h"

namespace millrace {
namespace {

#ifdef MILLRACE_OPENMP
// libgomp ends the process when it cannot start a thread; std::thread throws instead, so ask it first.
void require_startable(int threads) {
  std::vector<std::jthread> started;
  std::latch release(1);
  try {
    for (int i = 1; i < threads; ++i) started.emplace_back([&release] { release.wait(); });
  } catch (const std::system_error& error) {
    release.count_down();
    fail(Errc::unsupported, "{} threads asked for, the machine starts only {}: {}", threads, started.size() + 1,
         error.what());
  }
  release.count_down();
}
#endif

void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

#ifdef MILLRACE_OPENMP
// Keeps the calling thread on the n-th of the processors that it may run on.
void pin_to_processor(int n) noexcept {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (!CPU_ISSET(processor, &allowed) || n-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}
#endif

// Keeps the first exception of a parallel region for the caller.
class FirstFailure {
 public:
  template <class Body>
  void guard(Body&& body) noexcept {
    if (failed_.load(std::memory_order_relaxed)) return;
    try {
      FloatMode mode;
      body();
    } catch (...) {
      if (!failed_.exchange(true)) failure_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::atomic<bool> failed_ = false;
  std::exception_ptr failure_;
};

using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds sleeping_cost(30);  // and waking again, about
constexpr std::chrono::milliseconds longest_pause(2);   // between the jobs of a pass, from unequal threads or a read

// Waits until `word` is no longer `old`: spins for about the time that sleeping would cost, lets others have the
// processor up to `patience`, then sleeps.
void wait_while_equal(const std::atomic<std::uint32_t>& word, std::uint32_t old, Clock::duration patience) noexcept {
  const Clock::time_point start = Clock::now();
  for (Clock::duration waited{}; waited < std::max<Clock::duration>(patience, sleeping_cost);
       waited = Clock::now() - start) {
    for (int i = 0; i < 16; ++i) {
      if (word.load(std::memory_order_acquire) != old) return;
      relax();
    }
    if (waited > sleeping_cost) std::this_thread::yield();
  }
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

}  // namespace

// The helping threads: one OpenMP region that lasts as long as the team. Between jobs they wait here and not in the
// OpenMP runtime, whose waiting spins for milliseconds and starves a machine that has other work.
class Parallel::Team {
 public:
  explicit Team(int helpers)
      : wanted_(helpers),
        // Threads beyond the processors would only keep others from theirs.
        patience_(helpers < available_processors() ? longest_pause : Clock::duration{}),
        // With fewer threads the system knows better which processors others leave free.
        pinned_(helpers + 1 == available_processors()),
        shares_(static_cast<std::size_t>(helpers) + 1),
        driver_([this] { work(); }) {
    wait_while_equal(helpers_, 0, patience_);
  }
  ~Team() {
    job_ = nullptr;
    start();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // How many helpers OpenMP started: fewer than asked for where its environment limits them.
  int helpers() const noexcept { return static_cast<int>(helpers_.load(std::memory_order_acquire)); }

  // body(worker) on workers 0 (the caller) to `workers` - 1. One caller at a time, others wait for their turn.
  void run(int workers, Job body) {
    const std::lock_guard turn(turn_);
    run_in_turn(workers, body);
  }

  // body(task, task + 1, worker) for each of `count` tasks: every worker goes through a run of its own and then takes
  // what is left of others'.
  void run_tasks(int workers, std::int64_t count, Range body) {
    const std::lock_guard turn(turn_);
    const auto own = static_cast<std::size_t>(workers);
    for (std::size_t i = 0; i < own; ++i) {
      shares_[i].next.store(count * static_cast<std::int64_t>(i) / workers, std::memory_order_relaxed);
      shares_[i].end = count * static_cast<std::int64_t>(i + 1) / workers;
    }
    auto part = [&](int worker) {
      for (std::size_t i = 0; i < own; ++i) {
        Share& share = shares_[(static_cast<std::size_t>(worker) + i) % own];
        for (std::int64_t task; (task = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
          body(task, task + 1, worker);
      }
    };
    run_in_turn(workers, Job(part));
  }

 private:
  // A run of tasks; on a cache line of its own.
  struct alignas(64) Share {
    std::atomic<std::int64_t> next = 0;
    std::int64_t end = 0;
  };

  void run_in_turn(int workers, Job body) {
    FirstFailure failure;
    job_ = &body;
    failure_ = &failure;
    workers_ = workers;
    unfinished_.store(helpers_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    start();
    failure.guard([&] { body(0); });
    for (std::uint32_t left; (left = unfinished_.load(std::memory_order_acquire)) != 0;)
      wait_while_equal(unfinished_, left, patience_);
    failure.rethrow();
  }

  void start() noexcept {
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  }

  void work() {
#ifdef MILLRACE_OPENMP
#pragma omp parallel num_threads(wanted_)
    {
      if (omp_get_thread_num() == 0) {
        helpers_.store(static_cast<std::uint32_t>(omp_get_num_threads()), std::memory_order_release);
        helpers_.notify_one();
      }
      if (pinned_ && omp_get_proc_bind() == omp_proc_bind_false) pin_to_processor(omp_get_thread_num() + 1);
      help(omp_get_thread_num() + 1);
    }
#endif
  }

  void help(int worker) noexcept {
    for (std::uint32_t seen = 0;;) {
      wait_while_equal(round_, seen, patience_);
      ++seen;
      if (job_ == nullptr) return;
      if (worker < workers_) failure_->guard([&] { (*job_)(worker); });
      if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
    }
  }

  std::mutex turn_;
  [[maybe_unused]] const int wanted_;
  const Clock::duration patience_;
  [[maybe_unused]] const bool pinned_;
  std::vector<Share> shares_;  // by worker
  int workers_ = 0;
  const Job* job_ = nullptr;  // null ends the team
  FirstFailure* failure_ = nullptr;
  std::atomic<std::uint32_t> helpers_ = 0, round_ = 0, unfinished_ = 0;
  std::jthread driver_;  // last: it uses the members above
};

Parallel::Parallel(int threads) : threads_(threads) {
  require(threads >= 1 && threads <= max_threads, Errc::bad_argument, "threads is {}, expected 1 to {}", threads,
          max_threads);
#ifdef MILLRACE_OPENMP
  if (threads == 1) return;
  require_startable(threads);
  team_ = std::make_unique<Team>(threads - 1);
  require(team_->helpers() == threads - 1, Errc::unsupported, "{} threads asked for, OpenMP starts only {}", threads,
          team_->helpers() + 1);
#endif
}

Parallel::~Parallel() = default;

void Parallel::fork_join(int workers, Job body) const {
  if (team_ != nullptr && workers > 1) return team_->run(workers, body);
  FirstFailure failure;
  for (int worker = 0; worker < workers; ++worker) failure.guard([&] { body(worker); });
  failure.rethrow();
}

void Parallel::run_range(std::int64_t count, std::int64_t grain, Range body) const {
  if (count <= 0) return;
  const std::int64_t units = (count + grain - 1) / grain;
  const int workers = static_cast<int>(std::min<std::int64_t>(units, threads_));
  auto part = [&](int worker) {
    const std::int64_t begin = units * worker / workers * grain;
    const std::int64_t end = std::min(units * (worker + 1) / workers * grain, count);
    if (begin < end) body(begin, end, worker);
  };
  fork_join(workers, Job(part));
}

void Parallel::run_tasks(std::int64_t count, std::int64_t work, Range body) const {
  if (count <= 0) return;
  const std::int64_t worthwhile = std::max<std::int64_t>(1, count * work / least_work);
  const int workers = static_cast<int>(std::min({count, worthwhile, std::int64_t{threads_}}));
  if (team_ != nullptr && workers > 1) return team_->run_tasks(workers, count, body);
  auto all = [&](int worker) {
    for (std::int64_t task = 0; task < count; ++task) body(task, task + 1, worker);
  };
  fork_join(1, Job(all));
}

int available_processors() noexcept {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace millrace
