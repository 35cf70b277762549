// What changed between two runs of `millrace bench`, and whether it is more than noise.
#pragma once

#include <string>
#include <vector>

#include "apps/bench/report.h"

namespace millrace {

enum class BenchVerdict { same, faster, slower };

struct BenchChange {
  std::string title;
  double before = 0, after = 0;  // medians of the rates
  double ratio = 0;              // after / before
  double noise = 0;              // what the ratio may be off 1 without a change
  double fraction_before = 0, fraction_after = 0;
  BenchVerdict verdict = BenchVerdict::same;
};

struct BenchComparison {
  std::vector<BenchChange> changes;                  // of what both measured
  std::vector<std::string> only_before, only_after;  // titles
  std::vector<std::string> warnings;                 // why the two can hardly be compared
};

// A rate changed when each run's median lies outside of what the rounds of the other spread over, and by more than 1 %.
BenchComparison compare_bench(const BenchReport& before, const BenchReport& after);

std::string comparison_text(const BenchComparison& comparison);

}  // namespace millrace
