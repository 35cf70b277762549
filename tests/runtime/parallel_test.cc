#include "runtime/parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/error.h"
#include "runtime/float_mode.h"

namespace millrace {
namespace {

constexpr int thread_counts[] = {1, 2, 3, 5, 8};
constexpr std::int64_t counts[] = {0, 1, 2, 7, 8, 9, 100, 1001};

TEST(Parallel, RangeCoversEachIndexOnceInRunsOfTheGrain) {
  for (int threads : thread_counts) {
    const Parallel parallel(threads);
    for (std::int64_t count : counts)
      for (std::int64_t grain : {1, 3, 8, 64}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
        std::vector<std::atomic<int>> runs_of(static_cast<std::size_t>(threads));
        parallel.for_range(count, grain, [&](std::int64_t begin, std::int64_t end, int worker) {
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_TRUE(end == count || end % grain == 0);
          ++runs_of.at(static_cast<std::size_t>(worker));
          for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
        });
        for (const auto& times : seen) EXPECT_EQ(times, 1);
        for (const auto& runs : runs_of) EXPECT_LE(runs, 1);
      }
  }
}

TEST(Parallel, TasksCoverEachIndexOnce) {
  for (int threads : thread_counts) {
    const Parallel parallel(threads);
    EXPECT_EQ(parallel.threads(), threads);
    for (std::int64_t count : counts) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
      std::atomic<bool> worker_fits = true;
      parallel.for_tasks(count, Parallel::least_work, [&](std::int64_t task, int worker) {
        if (worker < 0 || worker >= threads) worker_fits = false;
        ++seen[static_cast<std::size_t>(task)];
      });
      EXPECT_TRUE(worker_fits);
      for (const auto& times : seen) EXPECT_EQ(times, 1);
    }
  }
}

// A worker that is held up does not keep the others from the rest of its run.
TEST(Parallel, TasksOfASlowWorkerAreTakenByOthers) {
  const Parallel parallel(2);
  std::array<std::thread::id, 2> threads;
  parallel.for_range(2, 1, [&](std::int64_t begin, std::int64_t, int) {
    threads[static_cast<std::size_t>(begin)] = std::this_thread::get_id();
  });
  if (threads[0] == threads[1]) GTEST_SKIP() << "built without threads";
  std::atomic<int> others = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  parallel.for_tasks(8, Parallel::least_work, [&](std::int64_t task, int) {
    if (task != 0) ++others;
    while (task == 0 && others < 7 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
  EXPECT_LT(std::chrono::steady_clock::now(), deadline);
}

TEST(Parallel, ATeamAsLargeAsTheMachineIsPinned) {
  const int threads = available_processors();
  const Parallel parallel(threads);
  std::vector<cpu_set_t> processors(static_cast<std::size_t>(threads));
  std::vector<std::thread::id> ids(processors.size());
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  parallel.for_range(threads, 1, [&](std::int64_t begin, std::int64_t, int) {
    const auto i = static_cast<std::size_t>(begin);
    ids[i] = std::this_thread::get_id();
    sched_getaffinity(0, sizeof processors[i], &processors[i]);
  });
  EXPECT_TRUE(CPU_EQUAL(&processors[0], &before)) << "the caller's thread is not ours";
  if (threads == 1 || ids[0] == ids[1]) GTEST_SKIP() << "one processor, or built without threads";
  cpu_set_t all;
  CPU_ZERO(&all);
  for (std::size_t i = 1; i < processors.size(); ++i) {
    EXPECT_EQ(CPU_COUNT(&processors[i]), 1);
    CPU_OR(&all, &all, &processors[i]);
  }
  EXPECT_EQ(CPU_COUNT(&all), threads - 1);
}

TEST(Parallel, RethrowsAnExceptionOfTheBody) {
  for (int threads : thread_counts) {
    const Parallel parallel(threads);
    EXPECT_THROW(parallel.for_tasks(100, Parallel::least_work,
                                    [](std::int64_t task, int) { require(task != 57, Errc::io, "task {}", task); }),
                 Error);
    EXPECT_THROW(parallel.for_range(100, 1, [](auto, auto, int) { throw std::out_of_range("all fail"); }),
                 std::out_of_range);
    int done = 0;  // the object stays usable
    parallel.for_range(1, 1, [&](auto, auto, int) { ++done; });
    EXPECT_EQ(done, 1);
  }
}

TEST(Parallel, RethrowsTheFirstException) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::atomic<int> thrown = 0;
    try {
      Parallel(4).for_range(4, 1, [&](auto, auto, int) { throw thrown++; });
      FAIL();
    } catch (int order) {
      EXPECT_LT(order, 4);
    }
  }
  try {
    Parallel(1).for_tasks(5, 1, [](std::int64_t task, int) { throw task; });
    FAIL();
  } catch (std::int64_t task) {
    EXPECT_EQ(task, 0);
  }
}

#if defined(__SSE__)
// A denormal halves to a denormal in the usual mode and to zero where denormals are flushed.
bool flushes() {
  volatile float tiny = 0x1p-126f;
  volatile float half = tiny * 0.5f;
  return half == 0.0f;
}

TEST(Parallel, BodiesFlushDenormalsAndTheCallerKeepsItsMode) {
  const unsigned before = _mm_getcsr();
  for (int threads : thread_counts) {
    const Parallel parallel(threads);
    std::atomic<int> flushing = 0;
    parallel.for_range(threads, 1,
                       [&](auto begin, auto end, int) { flushing += flushes() * static_cast<int>(end - begin); });
    EXPECT_EQ(flushing, threads);
    EXPECT_FALSE(flushes());
    EXPECT_THROW(parallel.for_tasks(10, Parallel::least_work, [](auto, int) { throw std::runtime_error(""); }),
                 std::runtime_error);
    EXPECT_FALSE(flushes());
    // Sticky exception flags aside, nothing of the caller's mode changes.
    EXPECT_EQ(_mm_getcsr() & ~0x3fu, before & ~0x3fu);
  }
}

TEST(Parallel, BodiesRoundToNearestWhateverTheCallerSet) {
  const unsigned before = _mm_getcsr();
  const unsigned upward = 0x4000;
  _mm_setcsr((before & ~0x6000u) | upward);
  volatile float one = 1.0f;
  std::atomic<bool> nearest = true;
  Parallel(3).for_range(3, 1, [&](auto, auto, int) {
    volatile float sum = one + 0x1p-30f;
    if (sum != 1.0f) nearest = false;
  });
  const unsigned after = _mm_getcsr();
  _mm_setcsr(before);
  EXPECT_TRUE(nearest);
  EXPECT_EQ(after & 0x6000u, upward);
}

TEST(FloatMode, PutsThePreviousModeBack) {
  EXPECT_FALSE(flushes());
  {
    const FloatMode outer;
    EXPECT_TRUE(flushes());
    {
      const FloatMode inner;
      EXPECT_TRUE(flushes());
    }
    EXPECT_TRUE(flushes());
  }
  EXPECT_FALSE(flushes());
}
#endif

TEST(Parallel, RefusesImpossibleThreadCounts) {
  for (int threads : {-1, 0, Parallel::max_threads + 1, 10000}) {
    try {
      const Parallel parallel(threads);
      FAIL() << threads;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::bad_argument);
      EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(threads)));
    }
  }
}

TEST(Parallel, ThereIsAProcessor) {
  EXPECT_GE(available_processors(), 1);
}

}  // namespace
}  // namespace millrace
