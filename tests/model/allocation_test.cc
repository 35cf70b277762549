// A decode step allocates nothing: its memory is planned before it runs.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "model/engine.h"
#include "model/session.h"
#include "tests/support/paths.h"

namespace {

std::atomic<long> allocations = 0;

void* counted(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) {
  return counted(bytes);
}
void* operator new[](std::size_t bytes) {
  return counted(bytes);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace millrace {
namespace {

TEST(Allocation, ADecodeStepAllocatesNothing) {
  const auto engine = Engine::open(test::golden_dir() + "/models/mimo-basic", {.threads = 2});
  for (std::int64_t rows : {1, 4}) {
    Session session(*engine);
    const std::vector<std::int32_t> tokens(static_cast<std::size_t>(rows), 5);
    for (int i = 0; i < 9; ++i) session.forward(tokens);
    const long before = allocations;
    session.forward(tokens);
    EXPECT_EQ(allocations - before, 0) << rows << " rows";
  }
}

}  // namespace
}  // namespace millrace
