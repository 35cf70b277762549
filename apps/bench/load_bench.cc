#include "apps/bench/load_bench.h"

#include <fmt/format.h>

#include <chrono>
#include <vector>

#include "loader/disk_rate.h"

namespace millrace {
namespace {

constexpr std::uint64_t most_disk_bytes = std::uint64_t{1} << 30;
constexpr std::size_t random_piece = std::size_t{6} << 20;  // about an expert

void add(Series& series, double bytes_per_second) {
  if (bytes_per_second > 0) series.values.push_back(1e-9 * bytes_per_second);
}

}  // namespace

std::vector<std::filesystem::path> weight_files(const Checkpoint& checkpoint) {
  std::vector<std::filesystem::path> files;
  for (const auto& file : checkpoint.files()) files.emplace_back(file->path());
  return files;
}

std::unique_ptr<Engine> measure_loading(const std::filesystem::path& model, const EngineOptions& options, int rounds,
                                        const std::function<void(const std::string& stage)>& progress,
                                        BenchReport& report) {
  const std::vector<std::filesystem::path> files = weight_files(Checkpoint::open(model));
  BenchResult result{.measure = "load", .threads = options.threads, .unit = "GB/s"};
  for (const auto& file : files) result.bytes += static_cast<double>(std::filesystem::file_size(file));
  BenchCeiling sequential{.name = "disk", .unit = "GB/s"}, random{.name = "disk, 6 MiB at random", .unit = "GB/s"};
  std::unique_ptr<Engine> engine;
  for (int round = 0; round < rounds; ++round) {
    if (progress) progress(fmt::format("loading, round {} of {}", round + 1, rounds));
    engine.reset();
    auto disk = std::make_unique<DiskRate>();  // whose memory is not the engine's
    const double best = disk->sequential(files, most_disk_bytes);
    report.disk = disk->how();
    add(sequential.rate, best);
    add(random.rate, disk->random(files, random_piece, most_disk_bytes / 4, static_cast<std::uint64_t>(round)));
    disk.reset();
    for (const auto& file : files) drop_cached(file);
    const auto start = std::chrono::steady_clock::now();
    engine = Engine::open(model, options);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const double rate = result.bytes / seconds.count();
    add(result.rate, rate);
    if (best > 0) result.fraction.values.push_back(rate / best);
  }
  for (BenchCeiling* ceiling : {&sequential, &random})
    if (!ceiling->rate.values.empty()) report.ceilings.push_back(*ceiling);
  report.results.push_back(result);
  return engine;
}

}  // namespace millrace
