#include "runtime/thread_slice.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include <thread>

namespace millrace {
namespace {

// Whatever the system makes of it, a thread keeps its policy and its priority.
TEST(ThreadSlice, LeavesPolicyAndPriority) {
  const int nice = getpriority(PRIO_PROCESS, 0);
  std::thread([nice] {
    take_short_slices();
    EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
    EXPECT_EQ(getpriority(PRIO_PROCESS, 0), nice);
  }).join();
}

TEST(ThreadSlice, LeavesThreadsThatRunOnlyWhenNothingElseDoes) {
  std::thread([] {
    const sched_param parameters{};
    if (sched_setscheduler(0, SCHED_IDLE, &parameters) != 0) return;
    take_short_slices();
    EXPECT_EQ(sched_getscheduler(0), SCHED_IDLE);
  }).join();
}

}  // namespace
}  // namespace millrace
