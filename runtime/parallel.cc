#include "runtime/parallel.h"

#include <sched.h>

#ifdef MILLRACE_OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <atomic>
#include <exception>
#include <latch>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/error.h"
#include "runtime/float_mode.h"

namespace millrace {
namespace {

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

template <class Body>
void fork_join(int workers, Body&& body) {
  FirstFailure failure;
#ifdef MILLRACE_OPENMP
  if (workers > 1) {
#pragma omp parallel num_threads(workers)
    failure.guard([&] { body(omp_get_thread_num(), omp_get_num_threads()); });
    failure.rethrow();
    return;
  }
#endif
  failure.guard([&] { body(0, 1); });
  failure.rethrow();
}

}  // namespace

Parallel::Parallel(int threads) : threads_(threads) {
  require(threads >= 1 && threads <= max_threads, Errc::bad_argument, "threads is {}, expected 1 to {}", threads,
          max_threads);
#ifdef MILLRACE_OPENMP
  if (threads > 1) require_startable(threads);
#endif
}

void Parallel::run_range(std::int64_t count, std::int64_t grain, Function body) const {
  if (count <= 0) return;
  const std::int64_t units = (count + grain - 1) / grain;
  const int wanted = static_cast<int>(std::min<std::int64_t>(units, threads_));
  fork_join(wanted, [&](int worker, int workers) {
    const std::int64_t begin = units * worker / workers * grain;
    const std::int64_t end = std::min(units * (worker + 1) / workers * grain, count);
    if (begin < end) body(begin, end, worker);
  });
}

void Parallel::run_tasks(std::int64_t count, std::int64_t work, Function body) const {
  if (count <= 0) return;
  const std::int64_t worthwhile = std::max<std::int64_t>(1, count * work / least_work);
  std::atomic<std::int64_t> next = 0;
  fork_join(static_cast<int>(std::min({count, worthwhile, std::int64_t{threads_}})), [&](int worker, int) {
    for (std::int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < count;)
      body(task, task + 1, worker);
  });
}

int available_processors() noexcept {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace millrace
