// Parallel: fork-join over a range, the only user of OpenMP. No result may depend on the number of threads: bodies
// write disjoint outputs and never combine values across tasks.
//
// Bodies run with one floating-point mode (round to nearest, denormals flushed on input and output) whatever the
// calling thread had set; the caller's mode is restored afterwards. That is what the bf16 instructions do by
// themselves, so every ISA tier computes the same.
#pragma once

#include <cstdint>
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

  int threads() const noexcept { return threads_; }

  // body(begin, end, worker): [0, count) in one contiguous run per worker, runs being multiples of `grain` (except at
  // the end). Small ranges run on fewer workers. The first exception of a body is rethrown here.
  template <class Body>
  void for_range(std::int64_t count, std::int64_t grain, Body&& body) const {
    run_range(count, grain, Function(body));
  }

  // body(task, worker) for each task in [0, count), handed out dynamically in ascending order. `work` is what one task
  // takes, in multiply-adds: little work in all runs on fewer workers.
  template <class Body>
  void for_tasks(std::int64_t count, std::int64_t work, Body&& body) const {
    auto range = [&body](std::int64_t begin, std::int64_t end, int worker) {
      for (std::int64_t task = begin; task < end; ++task) body(task, worker);
    };
    run_tasks(count, work, Function(range));
  }

 private:
  // A non-owning reference to a callable, so that a parallel region allocates nothing.
  class Function {
   public:
    template <class Body>
    explicit Function(Body& body)
        : body_(const_cast<void*>(static_cast<const void*>(&body))),
          call_([](void* target, std::int64_t begin, std::int64_t end, int worker) {
            (*static_cast<std::remove_reference_t<Body>*>(target))(begin, end, worker);
          }) {}
    void operator()(std::int64_t begin, std::int64_t end, int worker) const { call_(body_, begin, end, worker); }

   private:
    void* body_;
    void (*call_)(void*, std::int64_t, std::int64_t, int);
  };

  void run_range(std::int64_t count, std::int64_t grain, Function body) const;
  void run_tasks(std::int64_t count, std::int64_t work, Function body) const;

  int threads_;
};

// The processors this process may run on: the default number of threads.
int available_processors() noexcept;

}  // namespace millrace
