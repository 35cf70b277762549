// A decode step allocates nothing: its memory is planned before it runs.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "model/engine.h"
#include "model/session.h"
#include "model/speculation.h"
#include "runtime/trace.h"
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

TEST(Allocation, AnObservedStepAllocatesNothing) {
  const auto engine = Engine::open(test::golden_dir() + "/models/mimo-basic", {.threads = 2});
  Session session(*engine);
  Trace trace(1000);
  const std::vector<std::int32_t> token = {5};
  for (int i = 0; i < 9; ++i) session.forward(token, {.observer = &trace});
  const long before = allocations;
  session.forward(token, {.observer = &trace});
  EXPECT_EQ(allocations - before, 0);
}

TEST(Allocation, ASpeculativeStepAllocatesNothing) {
  const auto engine = Engine::open(test::golden_dir() + "/models/mimo-basic", {.threads = 2, .mtp_layers = 3});
  for (int guesses : {1, 3}) {
    Session session(*engine);
    Sampler sampler({.temperature = 0.9f, .repetition_penalty = 1.1f}, engine->config().vocab, engine->config().vocab);
    Speculation speculation(session, guesses, sampler);
    std::vector<std::int32_t> history = {5, 6, 7};
    history.reserve(100);
    session.forward(std::span(history).first(2));
    const auto step = [&] {
      speculation.pass(history, guesses, sampler, {}, [&](std::span<const float> logits) {
        history.push_back(sampler.sample(logits, history));
        return true;
      });
    };
    for (int i = 0; i < 12; ++i) step();
    const long before = allocations;
    step();
    EXPECT_EQ(allocations - before, 0) << guesses << " guesses";
  }
}

}  // namespace
}  // namespace millrace
