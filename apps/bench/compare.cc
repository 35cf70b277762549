#include "apps/bench/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace millrace {
namespace {

constexpr double least_change = 0.01;

const BenchResult* find(const BenchReport& report, const std::string& title) {
  for (const BenchResult& result : report.results)
    if (result.title() == title) return &result;
  return nullptr;
}

// Half the width of the spread, of the median.
double relative_spread(const Series& series) {
  return series.median() > 0 ? (series.high() - series.low()) / 2 / series.median() : 0;
}

bool is_outside(double value, const Series& series) {
  return value < series.low() || value > series.high();
}

BenchChange change_of(const BenchResult& before, const BenchResult& after) {
  BenchChange change;
  change.title = before.title();
  change.before = before.rate.median();
  change.after = after.rate.median();
  change.fraction_before = before.fraction.median();
  change.fraction_after = after.fraction.median();
  change.ratio = change.before > 0 ? change.after / change.before : 0;
  change.noise = relative_spread(before.rate) + relative_spread(after.rate);
  const bool apart = is_outside(change.after, before.rate) && is_outside(change.before, after.rate);
  if (apart && std::abs(change.ratio - 1) > least_change)
    change.verdict = change.ratio > 1 ? BenchVerdict::faster : BenchVerdict::slower;
  return change;
}

void warn_of_difference(BenchComparison& comparison, const char* what, const std::string& before,
                        const std::string& after) {
  if (before != after) comparison.warnings.push_back(fmt::format("{}: {} before, {} after", what, before, after));
}

}  // namespace

BenchComparison compare_bench(const BenchReport& before, const BenchReport& after) {
  BenchComparison comparison;
  warn_of_difference(comparison, "processor", before.processor, after.processor);
  warn_of_difference(comparison, "tier", before.tier, after.tier);
  warn_of_difference(comparison, "model", before.model, after.model);
  warn_of_difference(comparison, "numerics", before.numerics, after.numerics);
  warn_of_difference(comparison, "weights", before.weights, after.weights);
  for (const BenchResult& result : before.results) {
    const BenchResult* other = find(after, result.title());
    if (other != nullptr)
      comparison.changes.push_back(change_of(result, *other));
    else
      comparison.only_before.push_back(result.title());
  }
  for (const BenchResult& result : after.results)
    if (find(before, result.title()) == nullptr) comparison.only_after.push_back(result.title());
  return comparison;
}

std::string comparison_text(const BenchComparison& comparison) {
  std::string text;
  for (const std::string& warning : comparison.warnings) text += warning + "\n";
  text +=
      fmt::format("{:<40}{:>11}{:>11}{:>8}{:>9}  {:<14}{}\n", "", "before", "after", "ratio", "noise", "of best", "");
  constexpr const char* verdicts[] = {"", "faster", "slower"};
  for (const BenchChange& change : comparison.changes)
    text += fmt::format("{:<40}{:>11.2f}{:>11.2f}{:>8.3f}{:>7.1f} %  {:.2f} -> {:.2f}  {}\n", change.title,
                        change.before, change.after, change.ratio, 100 * change.noise, change.fraction_before,
                        change.fraction_after, verdicts[static_cast<int>(change.verdict)]);
  for (const std::string& title : comparison.only_before) text += title + ": only before\n";
  for (const std::string& title : comparison.only_after) text += title + ": only after\n";
  return text;
}

}  // namespace millrace
