#include "ops/concat.h"

#include <gtest/gtest.h>

#include <limits>

#include "runtime/error.h"
#include "tests/oracle/concat.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"

namespace millrace {
namespace {

TEST(Concat, CopiesBothRowsBitForBit) {
  test::Random random(41);
  for (std::int64_t first : {1, 16, 33})
    for (std::int64_t second : {1, 15, 160})
      for (std::int64_t rows : {1, 2, 70}) {
        auto a = random.normals(rows * first), b = random.normals(rows * second);
        a[0] = std::numeric_limits<float>::infinity();
        b[0] = 1e-40f;
        std::vector<float> y(a.size() + b.size());
        for (int threads : {1, 3}) {
          test::run_op(Concat(first, second), rows, {a.data(), b.data()}, {y.data()}, threads);
          test::expect_same_bits(y, oracle::concat(a, b, static_cast<std::size_t>(rows)), "concat");
        }
      }
}

TEST(Concat, RefusesEmptyRows) {
  EXPECT_THROW(Concat(0, 1), Error);
  EXPECT_THROW(Concat(1, 0), Error);
}

}  // namespace
}  // namespace millrace
