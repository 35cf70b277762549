#include "ops/gather_rows.h"

#include <gtest/gtest.h>

#include <limits>

#include "runtime/error.h"
#include "tests/oracle/gather_rows.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"

namespace millrace {
namespace {

Batch batch_of(std::int64_t rows, std::vector<std::int32_t> logits_rows) {
  Batch batch;
  batch.tokens.resize(static_cast<std::size_t>(rows));
  batch.logits_rows = std::move(logits_rows);
  return batch;
}

TEST(GatherRows, CopiesTheNamedRowsBitForBit) {
  test::Random random(31);
  for (std::int64_t width : {1, 15, 16, 17, 1025}) {
    auto x = random.normals(70 * width);
    x[3] = std::numeric_limits<float>::infinity();
    x[static_cast<std::size_t>(2 * width)] = 1e-40f;
    for (const std::vector<std::int32_t>& wanted : {std::vector<std::int32_t>{}, {69}, {0, 2, 5}, {0, 1, 2, 3, 68}}) {
      std::vector<float> y(wanted.size() * static_cast<std::size_t>(width));
      for (int threads : {1, 3}) {
        test::run_op(GatherRows(width), static_cast<std::int64_t>(wanted.size()), {x.data()}, {y.data()}, threads,
                     batch_of(70, wanted));
        test::expect_same_bits(y, oracle::gather_rows(x, wanted, static_cast<std::size_t>(width)), "gather");
      }
    }
  }
}

TEST(GatherRows, ManyRowsOnManyThreads) {
  test::Random random(32);
  const auto x = random.normals(200 * 9);
  std::vector<std::int32_t> wanted;
  for (std::int32_t row = 0; row < 200; row += 2) wanted.push_back(row);
  std::vector<float> y(wanted.size() * 9);
  for (int threads : {1, 2, 5}) {
    test::run_op(GatherRows(9), 100, {x.data()}, {y.data()}, threads, batch_of(200, wanted));
    test::expect_same_bits(y, oracle::gather_rows(x, wanted, 9), "gather");
  }
}

TEST(GatherRows, RefusesRowsOutsideTheBatch) {
  std::vector<float> x(8), y(4);
  EXPECT_THROW(GatherRows(0), Error);
  EXPECT_THROW(test::run_op(GatherRows(4), 1, {x.data()}, {y.data()}, 1, batch_of(2, {2})), Error);
  EXPECT_THROW(test::run_op(GatherRows(4), 1, {x.data()}, {y.data()}, 1, batch_of(2, {-1})), Error);
}

}  // namespace
}  // namespace millrace
