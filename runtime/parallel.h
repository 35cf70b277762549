// Parallel: fork-join over a range, the only user of OpenMP. Owns a team of threads - 1 helpers that sleep between
// jobs; the caller is the last worker. Any thread may call; calls from several threads take turns. No result may depend
// on the number of threads: bodies write disjoint outputs and never combine values across tasks. A team as large as the
// machine keeps each helper on a processor of its own, unless OpenMP was told where threads go (OMP_PROC_BIND); the
// caller's thread stays free.
//
// Bodies run with one floating-point mode (round to nearest, denormals flushed on input and output) whatever the
// calling thread had set; the caller's mode is restored afterwards. That is what the bf16 instructions do by
// themselves, so every ISA tier computes the same.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace millrace {

class Parallel {
 public:
  static constexpr int max_threads = 1024;
  // Multiply-adds below which another worker costs more than it brings: a fork-join takes a few microseconds.
  static constexpr std::int64_t least_work = 65536;

  // Throws Error(bad_argument) outside 1..max_threads and Error(unsupported) if the machine cannot start that many.
  explicit Parallel(int threads);
  ~Parallel();
  Parallel(const Parallel&) = delete;
  Parallel& operator=(const Parallel&) = delete;

  int threads() const noexcept { return threads_; }

  // body(begin, end, worker): [0, count) in one contiguous run per worker, runs being multiples of `grain` (except at
  // the end). Small ranges run on fewer workers. The first exception of a body is rethrown here.
  template <class Body>
  void for_range(std::int64_t count, std::int64_t grain, Body&& body) const {
    run_range(count, grain, Range(body));
  }

  // body(task, worker) for each task in [0, count). Each worker goes through a run of its own in ascending order, so
  // that it reads memory in one stream, and then takes tasks that others have not begun. `work` is what one task takes,
  // in multiply-adds: little work in all runs on fewer workers.
  template <class Body>
  void for_tasks(std::int64_t count, std::int64_t work, Body&& body) const {
    auto range = [&body](std::int64_t begin, std::int64_t end, int worker) {
      for (std::int64_t task = begin; task < end; ++task) body(task, worker);
    };
    run_tasks(count, work, Range(range));
  }

 private:
  class Team;

  // A non-owning reference to a callable, so that a parallel region allocates nothing.
  template <class... Args>
  class Callable {
   public:
    template <class Body>
    explicit Callable(Body& body)
        : body_(const_cast<void*>(static_cast<const void*>(&body))),
          call_([](void* target, Args... args) { (*static_cast<std::remove_reference_t<Body>*>(target))(args...); }) {}
    void operator()(Args... args) const { call_(body_, args...); }

   private:
    void* body_;
    void (*call_)(void*, Args...);
  };
  using Range = Callable<std::int64_t, std::int64_t, int>;  // begin, end, worker
  using Job = Callable<int>;                                // worker

  void run_range(std::int64_t count, std::int64_t grain, Range body) const;
  void run_tasks(std::int64_t count, std::int64_t work, Range body) const;
  void fork_join(int workers, Job body) const;

  int threads_;
  std::unique_ptr<Team> team_;  // null on one thread
};

// The processors this process may run on: the default number of threads.
int available_processors() noexcept;

}  // namespace millrace
