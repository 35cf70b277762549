// What `millrace bench` measured, and its form in JSON, which later runs are compared with.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

// A rate, measured once in each round.
struct Series {
  std::vector<double> values;

  // All 0 without values.
  double median() const;
  // What most rounds lie between: the 10th and the 90th percentile, of less than ten rounds the extremes.
  double low() const;
  double high() const;
};

// Where time goes in one pass, by kind of operator.
struct BenchKind {
  std::string kind;
  std::int64_t steps = 0;  // per pass
  double seconds = 0, bytes = 0, flops = 0;
  double ceiling_seconds = 0;  // what the machine would take at best
};

// Something that bounds results: "read", an instruction, "disk", "disk random".
struct BenchCeiling {
  std::string name;
  int threads = 0;   // 0 where it does not depend on them
  std::string unit;  // "GB/s", "GFLOP/s"
  Series rate;
};

struct BenchResult {
  std::string measure;  // "prefill", "decode", "load", "mtp"
  int threads = 0;
  std::int64_t prompt = 0;      // tokens of a prefill
  std::int64_t batch = 0;       // sessions in one pass of a decode
  std::int64_t depth = 0;       // tokens each session holds before
  std::string unit;             // "tokens/s", "GB/s"
  Series rate, fraction;        // of the ceiling, measured in the same round
  double bytes = 0, flops = 0;  // per pass: weights and cache once, and all products
  // Where experts are streamed, seconds of a pass: to read those that were missing at the disk's rate, and to compute
  // with all of them in memory. The longer of both is the best.
  Series to_read, to_compute;
  // Of "mtp": how many guesses, and which of them come true where that is made up; the rate without guesses in the same
  // round, what the rate with them is of that, and how many tokens a pass gave.
  std::string guesses;
  Series plain_rate, ratio, tokens_per_pass;
  std::vector<BenchKind> kinds;
  double between_seconds = 0;  // per pass, outside of steps

  // "decode, 2 threads, batch 1, depth 4096": tells results of one run apart.
  std::string title() const;
};

struct BenchReport {
  std::string version, processor, tier, model, numerics, weights;
  int rounds = 0;
  std::string disk;  // how it was read
  std::vector<BenchCeiling> ceilings;
  std::vector<BenchResult> results;
};

nlohmann::ordered_json bench_json(const BenchReport& report);
// `file` names the source of `text` in messages. Throws Error(bad_file) for what bench_json cannot have written.
BenchReport parse_bench_json(std::string_view text, const std::string& file);

// Tables for people.
std::string bench_text(const BenchReport& report);

}  // namespace millrace
