#include "runtime/float16.h"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>

namespace millrace {
namespace {

TEST(Float16, EveryCodeWidensAsEigenDoes) {
  for (std::uint32_t code = 0; code < 65536; ++code) {
    const float value = f16_to_f32(static_cast<std::uint16_t>(code));
    const auto eigen = static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(static_cast<std::uint16_t>(code)));
    if (std::isnan(eigen))
      ASSERT_TRUE(std::isnan(value)) << code;
    else
      ASSERT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(eigen)) << code;
  }
}

}  // namespace
}  // namespace millrace
