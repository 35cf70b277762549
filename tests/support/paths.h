// Where the tests find their inputs. The only source that knows is paths.cc, so that every other one compiles to the
// same object in any checkout.
#pragma once

#include <string>

namespace millrace::test {

std::string golden_dir();  // tests/golden as laid out in the build folder
std::string source_dir();  // the checkout

}  // namespace millrace::test
