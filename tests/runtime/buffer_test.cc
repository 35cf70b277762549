#include "runtime/buffer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "runtime/error.h"

namespace millrace {
namespace {

TEST(Buffer, IsAlignedAndZeroed) {
  for (std::size_t bytes :
       {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{4097}, std::size_t{5} << 20}) {
    const Buffer buffer(bytes, "test");
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % Buffer::alignment, 0u);
    EXPECT_TRUE(std::all_of(buffer.data(), buffer.data() + bytes, [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST(Buffer, OfNothingIsEmpty) {
  EXPECT_EQ(Buffer(0, "test").data(), nullptr);
  EXPECT_EQ(Buffer().bytes(), 0u);
}

TEST(Buffer, MovingLeavesAnEmptyOne) {
  Buffer first(100, "test");
  std::byte* const data = first.data();
  Buffer second(std::move(first));
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT: the moved-from state is what is tested
  EXPECT_EQ(first.bytes(), 0u);
  Buffer third(7, "test");
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
  EXPECT_EQ(third.bytes(), 100u);
  Buffer& same = third;
  third = std::move(same);
  EXPECT_EQ(third.data(), data);
}

TEST(Buffer, NamesWhatDidNotFit) {
  try {
    const Buffer buffer(SIZE_MAX - 100, "KV cache");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::out_of_memory);
    EXPECT_THAT(error.what(), testing::HasSubstr("KV cache"));
  }
}

}  // namespace
}  // namespace millrace
