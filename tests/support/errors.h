// What a call throws, as something to match.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "runtime/error.h"

namespace millrace::test {

// The message of the Error that `body` throws with that code; anything else fails the test.
template <class Body>
std::string error_of(Errc code, Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

}  // namespace millrace::test
