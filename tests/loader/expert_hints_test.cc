#include "loader/expert_hints.h"

#include <gmock/gmock.h>

namespace millrace {
namespace {

std::vector<int> all_of(ExpertHints& hints) {
  std::vector<int> experts;
  for (; !hints.empty(); hints.pop()) experts.push_back(hints.next());
  return experts;
}

TEST(ExpertHints, GivesWhatItTookInThatOrder) {
  ExpertHints hints(4);
  EXPECT_TRUE(hints.empty());
  hints.take(3, std::vector<std::int32_t>{7, 1, 5});
  EXPECT_EQ(hints.layer(), 3);
  EXPECT_EQ(hints.next(), 7);
  hints.pop();
  hints.take(4, std::vector<std::int32_t>{2, 9});
  EXPECT_EQ(hints.layer(), 4);
  EXPECT_THAT(all_of(hints), testing::ElementsAre(2, 9));
  hints.take(5, std::vector<std::int32_t>{1, 2, 3, 4, 5, 6});
  EXPECT_THAT(all_of(hints), testing::ElementsAre(1, 2, 3, 4));
  hints.take(6, std::vector<std::int32_t>{1});
  hints.clear();
  EXPECT_TRUE(hints.empty());
}

TEST(ExpertHints, StopsWhileItDoesNotPay) {
  ExpertHints hints(4);
  const std::vector<std::int32_t> list = {1, 2};
  const auto taken = [&](int lists) {
    int count = 0;
    for (int i = 0; i < lists; ++i) {
      hints.take(1, list);
      count += !hints.empty();
    }
    return count;
  };
  for (int i = 0; i < 500; ++i) hints.came_true(i % 2 == 0);
  EXPECT_TRUE(hints.pays());
  EXPECT_EQ(taken(100), 100);
  for (int i = 0; i < 500; ++i) hints.came_true(i % 10 == 0);
  EXPECT_FALSE(hints.pays());
  const int probes = taken(320);
  EXPECT_GE(probes, 5);
  EXPECT_LE(probes, 32);
  for (int i = 0; i < 500; ++i) hints.came_true(true);
  EXPECT_EQ(taken(10), 10);
}

}  // namespace
}  // namespace millrace
