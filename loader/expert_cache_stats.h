// What a cache of experts did so far. A plain value.
#pragma once

#include <cstdint>

namespace millrace {

struct ExpertCacheStats {
  const char* reader = "";
  std::uint64_t slots = 0, slot_bytes = 0;
  std::uint64_t expert_bytes = 0;      // that are read for one, at most
  std::uint64_t hits = 0, misses = 0;  // of the experts that passes demanded: in memory, but for hints, or not
  std::uint64_t hinted = 0;            // experts that were begun to be read before any pass demanded them
  std::uint64_t hints_used = 0;        // of these, demanded by the next pass; they count as misses
  std::uint64_t reads = 0;             // of experts
  std::uint64_t bytes_read = 0;
  double read_seconds = 0;  // in which something was being read
  double wait_seconds = 0;  // in which the computing thread waited for it
};

}  // namespace millrace
