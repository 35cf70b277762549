// What only emulated tiles can tell: that kernels leave none configured, and that few ask for them.
#include <gtest/gtest.h>

#include <atomic>

#include "ops/linear.h"
#include "ops/linear_tiles.h"
#include "runtime/buffer.h"
#include "runtime/parallel.h"
#include "tests/support/random.h"
#include "tests/support/tiers.h"
#include "tests/support/weights.h"

namespace millrace {
namespace amx {
bool tiles_are_configured() noexcept;
}
namespace test {
int tile_unit_questions() noexcept;
}
namespace {

TEST(EmulatedTiles, AreReleasedOnEveryThread) {
  if (!isa_supported(Isa::amx)) GTEST_SKIP() << "this machine lacks the tier below amx";
  const test::WithIsa with(Isa::amx);
  test::Random random(1);
  const std::int64_t inputs = 200, outputs = 64;
  const test::Fp8Weight w8(random, outputs, inputs);
  for (std::int64_t rows : {1, 17, 40}) {
    const auto x = random.normals(rows * inputs);
    std::vector<Bfloat16> packed(packed_bytes(rows, inputs) / 2);
    pack_rows(Compute::bf16_tiles, x.data(), rows, inputs, reinterpret_cast<std::byte*>(packed.data()));
    std::vector<float> y(static_cast<std::size_t>(rows * outputs));
    std::atomic<int> left = 0, calls = 0;
    Parallel(3).for_range(outputs, 16, [&](std::int64_t begin, std::int64_t end, int) {
      Buffer scratch(linear_scratch_bytes(inputs), "scratch");
      linear_tiles_kernel({.weight = linear_weight(w8.tensor(), Compute::bf16_tiles),
                           .x = packed.data(),
                           .x_rows = nullptr,
                           .rows = rows,
                           .y = y.data(),
                           .y_stride = outputs,
                           .begin = begin,
                           .end = end,
                           .scratch = scratch.data()});
      ++calls;
      left += amx::tiles_are_configured() ? 1 : 0;
    });
    EXPECT_GT(calls, 0);
    EXPECT_EQ(left, 0);
  }
}

// A machine under another may take longer to answer than a step of a small operator takes.
TEST(EmulatedTiles, TheProcessorIsAskedOnce) {
  for (int i = 0; i < 3; ++i) isa_supported(Isa::amx);
  EXPECT_LE(test::tile_unit_questions(), 1);  // none where the tier below is missing
}

}  // namespace
}  // namespace millrace
