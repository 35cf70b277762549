#include <fmt/format.h>

#include <algorithm>

#include "apps/bench/report.h"
#include "apps/common/progress.h"

namespace millrace {
namespace {

std::string number(double value) {
  return value >= 100  ? fmt::format("{:.0f}", value)
         : value >= 10 ? fmt::format("{:.1f}", value)
                       : fmt::format("{:.2f}", value);
}

std::string spread(const Series& series) {
  return fmt::format("{} - {}", number(series.low()), number(series.high()));
}

std::string ceilings_text(const BenchReport& report) {
  std::string text = fmt::format("{:<40}{:>10} {:<10}{}\n", "ceilings", "median", "", "spread");
  for (const BenchCeiling& ceiling : report.ceilings) {
    std::string name = ceiling.name;
    if (ceiling.threads > 0) name += fmt::format(", {} thread{}", ceiling.threads, ceiling.threads == 1 ? "" : "s");
    text += fmt::format("  {:<38}{:>10} {:<10}{}\n", name, number(ceiling.rate.median()), ceiling.unit,
                        spread(ceiling.rate));
  }
  return text;
}

std::string results_text(const BenchReport& report) {
  std::string text =
      fmt::format("\n{:<40}{:>10} {:<10}{:<20}{:>8}  {}\n", "results", "median", "", "spread", "of best", "spread");
  for (const BenchResult& result : report.results) {
    text += fmt::format("  {:<38}{:>10} {:<10}{:<20}", result.title(), number(result.rate.median()), result.unit,
                        spread(result.rate));
    text += result.fraction.values.empty() ? "\n"
                                           : fmt::format("{:>8.2f}  {:.2f} - {:.2f}\n", result.fraction.median(),
                                                         result.fraction.low(), result.fraction.high());
  }
  return text;
}

// What bounds results whose experts are streamed.
std::string streaming_text(const BenchReport& report) {
  std::string text;
  for (const BenchResult& result : report.results) {
    if (result.to_read.values.empty()) continue;
    if (text.empty())
      text = fmt::format("\n{:<40}{:>12}{:>15}   of best: of the longer of both\n", "streamed experts, ms per pass",
                         "to read", "to compute");
    text += fmt::format("  {:<38}{:>12.1f}{:>15.1f}\n", result.title(), 1e3 * result.to_read.median(),
                        1e3 * result.to_compute.median());
  }
  return text;
}

// What guesses of prediction layers are good for.
std::string guesses_text(const BenchReport& report) {
  std::string text;
  for (const BenchResult& result : report.results) {
    if (result.ratio.values.empty()) continue;
    if (text.empty())
      text = fmt::format("\n{:<40}{:>10} {:<10}{:<20}{:>8}  {}\n", "guesses of prediction layers", "without", "", "",
                         "ratio", "spread");
    text += fmt::format("  {:<38}{:>10} {:<10}{:<20}{:>8.2f}  {:.2f} - {:.2f}\n", result.title(),
                        number(result.plain_rate.median()), result.unit,
                        fmt::format("{:.2f} tokens/pass", result.tokens_per_pass.median()), result.ratio.median(),
                        result.ratio.low(), result.ratio.high());
  }
  return text;
}

constexpr double least_share = 0.005;  // kinds with less are one line

// Where the time of one pass goes.
std::string kinds_text(const BenchResult& result) {
  double all = result.between_seconds;
  for (const BenchKind& kind : result.kinds) all += kind.seconds;
  std::string text = fmt::format("\n{:<40}{:>10}{:>9}{:>12}{:>10}{:>9}\n", result.title(), "ms", "share", "to read",
                                 "GFLOP", "of best");
  const auto add = [&](const BenchKind& kind) {
    text += fmt::format("  {:<28}{:>4} steps{:>10.3f}{:>7.1f} %{:>12}{:>10.3f}{:>9.2f}\n", kind.kind, kind.steps,
                        1e3 * kind.seconds, 100 * kind.seconds / all, bytes_text(kind.bytes), 1e-9 * kind.flops,
                        kind.ceiling_seconds / std::max(kind.seconds, 1e-12));
  };
  BenchKind others{.kind = "others"};
  for (const BenchKind& kind : result.kinds) {
    if (kind.seconds >= least_share * all) {
      add(kind);
      continue;
    }
    others.steps += kind.steps;
    others.seconds += kind.seconds;
    others.bytes += kind.bytes;
    others.flops += kind.flops;
    others.ceiling_seconds += kind.ceiling_seconds;
  }
  if (others.steps > 0) add(others);
  return text + fmt::format("  {:<38}{:>10.3f}{:>7.1f} %\n", "between steps", 1e3 * result.between_seconds,
                            100 * result.between_seconds / all);
}

}  // namespace

std::string bench_text(const BenchReport& report) {
  std::string text = fmt::format("{}, tier {}\n{}, numerics {}, weights {}, {} rounds", report.processor, report.tier,
                                 report.model, report.numerics, report.weights, report.rounds);
  if (!report.disk.empty()) text += fmt::format(", disk read by {}", report.disk);
  text += "\n\n" + ceilings_text(report) + results_text(report) + streaming_text(report) + guesses_text(report);
  // Of every prefill and decode on the most threads.
  int threads = 0;
  for (const BenchResult& result : report.results) threads = std::max(threads, result.threads);
  for (const BenchResult& result : report.results)
    if (result.threads == threads && !result.kinds.empty()) text += kinds_text(result);
  return text;
}

}  // namespace millrace
