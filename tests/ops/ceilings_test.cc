#include "ops/ceilings.h"

#include <gtest/gtest.h>

#include "tests/support/tiers.h"

namespace millrace {
namespace {

TEST(Ceilings, EveryTierReadsEverything) {
  std::vector<std::byte> memory(4096);
  for (Isa isa : test::present_tiers()) {
    ReadStreamFn* read = read_stream_kernel.at(isa);
    EXPECT_EQ(read(memory.data(), 4096), 0);
    for (std::size_t line = 0; line < 4096; line += 64) {
      memory[line] = std::byte{1};
      EXPECT_NE(read(memory.data(), 4096), 0) << name_of(isa) << ", byte " << line;
      memory[line] = std::byte{0};
    }
  }
}

TEST(Ceilings, RatesArePositive) {
  const Parallel parallel(2);
  EXPECT_GT(ReadCeiling(1).measure(parallel), 0);
  const auto peaks = multiply_peaks();
  ASSERT_FALSE(peaks.empty());
  for (const MultiplyPeak& peak : peaks) EXPECT_GT(measure_peak(peak, parallel, 1e-3), 0) << peak.name;
}

}  // namespace
}  // namespace millrace
