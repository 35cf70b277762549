#include "loader/xxhash.h"

#include <gmock/gmock.h>

namespace millrace {
namespace {

std::string hash_of(std::string_view data) {
  XxHash64 digest;
  digest.add(data);
  return digest.hex();
}

// "\x01\x08\x0f..."
std::string counting(std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text.push_back(static_cast<char>(i * 7 + 1));
  return text;
}

TEST(XxHash64, MatchesThePublishedExamples) {
  EXPECT_EQ(hash_of(""), "ef46db3751d8e999");
  EXPECT_EQ(hash_of("a"), "d24ec4f1a98c6e5b");
  EXPECT_EQ(hash_of("abc"), "44bc2cf5ad770999");
  EXPECT_EQ(hash_of("Nobody inspects the spammish repetition"), "fbcea83c8a378bf1");
}

// By another implementation of the specification.
TEST(XxHash64, LengthsAroundAStripe) {
  EXPECT_EQ(hash_of(counting(31)), "6ab1c40e29f50073");
  EXPECT_EQ(hash_of(counting(32)), "5a0756fbe9ecd3d1");
  EXPECT_EQ(hash_of(counting(33)), "dc50cdc37bb9c183");
  EXPECT_EQ(hash_of(counting(63)), "10dd94885c71894a");
  EXPECT_EQ(hash_of(counting(64)), "90083da9cdb9d795");
  EXPECT_EQ(hash_of(counting(100)), "d248bfc5208b0b16");
}

TEST(XxHash64, PiecesOfAnyLength) {
  const std::string data = counting(300);
  for (std::size_t piece = 1; piece < 100; ++piece) {
    XxHash64 digest;
    for (std::size_t at = 0; at < data.size(); at += piece) digest.add(std::string_view(data).substr(at, piece));
    EXPECT_EQ(digest.hex(), hash_of(data)) << "pieces of " << piece;
  }
}

}  // namespace
}  // namespace millrace
