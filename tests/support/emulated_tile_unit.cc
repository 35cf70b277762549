// A tile unit that is always there, for test programs that link emulated tiles; they still run on a processor with the
// tier below only.
#include "ops/tile_unit.h"

#include <atomic>

namespace millrace {
namespace {

std::atomic<int> questions = 0;

}  // namespace

namespace test {

// How often the process wanted to know whether there are tiles.
int tile_unit_questions() noexcept {
  return questions;
}

}  // namespace test

bool has_tile_unit() noexcept {
  ++questions;
  return true;
}

void allow_tiles() {}

}  // namespace millrace
