#include "tests/support/paths.h"

namespace millrace::test {

std::string golden_dir() {
  return MILLRACE_GOLDEN_DIR;
}

std::string source_dir() {
  return MILLRACE_SOURCE_DIR;
}

}  // namespace millrace::test
