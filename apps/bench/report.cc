#include "apps/bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "loader/json.h"
#include "runtime/error.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view format_name = "millrace-bench-1";

// Between the two values next to it, linearly.
double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

constexpr std::size_t enough_for_percentiles = 10;

Json series_json(const Series& series) {
  return {{"median", series.median()}, {"low", series.low()}, {"high", series.high()}, {"values", series.values}};
}

Json kinds_json(const BenchResult& result) {
  Json kinds = Json::array();
  double all = result.between_seconds;
  for (const BenchKind& kind : result.kinds) all += kind.seconds;
  for (const BenchKind& kind : result.kinds)
    kinds.push_back({{"kind", kind.kind},
                     {"steps", kind.steps},
                     {"seconds", kind.seconds},
                     {"share", all > 0 ? kind.seconds / all : 0},
                     {"bytes", kind.bytes},
                     {"flops", kind.flops},
                     {"fraction", kind.seconds > 0 ? kind.ceiling_seconds / kind.seconds : 0}});
  return kinds;
}

Series parse_series(const nlohmann::json& json) {
  return {json.at("values").get<std::vector<double>>()};
}

// Reports of before such a thing was measured have none.
Series parse_optional(const nlohmann::json& json, const char* key) {
  return json.contains(key) ? parse_series(json.at(key)) : Series();
}

BenchResult parse_result(const nlohmann::json& json) {
  return {.measure = json.at("measure"),
          .threads = json.at("threads"),
          .prompt = json.at("prompt"),
          .batch = json.at("batch"),
          .depth = json.at("depth"),
          .unit = json.at("unit"),
          .rate = parse_series(json.at("rate")),
          .fraction = parse_series(json.at("fraction")),
          .bytes = json.at("bytes"),
          .flops = json.at("flops"),
          .to_read = parse_optional(json, "to_read"),
          .to_compute = parse_optional(json, "to_compute"),
          .guesses = json.value("guesses", ""),
          .plain_rate = parse_optional(json, "plain_rate"),
          .ratio = parse_optional(json, "ratio"),
          .tokens_per_pass = parse_optional(json, "tokens_per_pass"),
          .kinds = {},
          .between_seconds = json.at("between_seconds")};
}

}  // namespace

double Series::median() const {
  return quantile(values, 0.5);
}

double Series::low() const {
  return quantile(values, values.size() < enough_for_percentiles ? 0 : 0.1);
}

double Series::high() const {
  return quantile(values, values.size() < enough_for_percentiles ? 1 : 0.9);
}

std::string BenchResult::title() const {
  const std::string on = fmt::format("{}, {} thread{}", measure, threads, threads == 1 ? "" : "s");
  if (measure == "prefill") return fmt::format("{}, {} tokens", on, prompt);
  if (measure == "decode") return fmt::format("{}, batch {}, depth {}", on, batch, depth);
  if (measure == "mtp") return fmt::format("{}, {}", on, guesses);
  return on;
}

nlohmann::ordered_json bench_json(const BenchReport& report) {
  Json ceilings = Json::array(), results = Json::array();
  for (const BenchCeiling& ceiling : report.ceilings)
    ceilings.push_back({{"name", ceiling.name},
                        {"threads", ceiling.threads},
                        {"unit", ceiling.unit},
                        {"rate", series_json(ceiling.rate)}});
  for (const BenchResult& result : report.results)
    results.push_back({{"measure", result.measure},
                       {"threads", result.threads},
                       {"prompt", result.prompt},
                       {"batch", result.batch},
                       {"depth", result.depth},
                       {"unit", result.unit},
                       {"rate", series_json(result.rate)},
                       {"fraction", series_json(result.fraction)},
                       {"bytes", result.bytes},
                       {"flops", result.flops},
                       {"to_read", series_json(result.to_read)},
                       {"to_compute", series_json(result.to_compute)},
                       {"guesses", result.guesses},
                       {"plain_rate", series_json(result.plain_rate)},
                       {"ratio", series_json(result.ratio)},
                       {"tokens_per_pass", series_json(result.tokens_per_pass)},
                       {"kinds", kinds_json(result)},
                       {"between_seconds", result.between_seconds}});
  return {{"format", format_name},         {"version", report.version},
          {"processor", report.processor}, {"tier", report.tier},
          {"model", report.model},         {"numerics", report.numerics},
          {"weights", report.weights},     {"rounds", report.rounds},
          {"disk", report.disk},           {"ceilings", std::move(ceilings)},
          {"results", std::move(results)}};
}

BenchReport parse_bench_json(std::string_view text, const std::string& file) {
  const nlohmann::json json = parse_json(text, file);
  try {
    require(json.at("format") == format_name, Errc::bad_file, "{}: format is not {}", file, format_name);
    BenchReport report = {.version = json.at("version"),
                          .processor = json.at("processor"),
                          .tier = json.at("tier"),
                          .model = json.at("model"),
                          .numerics = json.at("numerics"),
                          .weights = json.at("weights"),
                          .rounds = json.at("rounds"),
                          .disk = json.at("disk"),
                          .ceilings = {},
                          .results = {}};
    for (const auto& ceiling : json.at("ceilings"))
      report.ceilings.push_back({.name = ceiling.at("name"),
                                 .threads = ceiling.at("threads"),
                                 .unit = ceiling.at("unit"),
                                 .rate = parse_series(ceiling.at("rate"))});
    for (const auto& result : json.at("results")) report.results.push_back(parse_result(result));
    return report;
  } catch (const nlohmann::json::exception& error) {
    fail(Errc::bad_file, "{}: not what millrace bench --json writes: {}", file, error.what());
  }
}

}  // namespace millrace
