// Expert reads of the store alone, without any computing, against reads of the same size by nothing but the disk
// reader:
//   expert_reads_bench FOLDER [ROUNDS]
// Medians of rounds in which both take turns. Experts are new each time as far as the folder has so many.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <random>
#include <vector>

#include "loader/checkpoint.h"
#include "loader/disk_rate.h"
#include "loader/expert_store.h"
#include "model/programs.h"
#include "runtime/clock.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t at_a_time = 8;        // experts of a row
constexpr std::size_t least_experts = 160;  // of a round
constexpr std::uint64_t probe_bytes = std::uint64_t{1} << 30;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// Asks for some experts of a layer and announces those of the next, as a decode does that predicts every one of them.
class Walk {
 public:
  Walk(ExpertStore& store, const std::vector<ExpertLayer>& layers)
      : store_(store), layers_(layers), choice_(layers.size()) {
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      choice_[layer].resize(static_cast<std::size_t>(layers[layer].experts));
      std::iota(choice_[layer].begin(), choice_[layer].end(), 0);
      std::shuffle(choice_[layer].begin(), choice_[layer].end(), random_);
    }
  }

  // Bytes per second.
  double round() {
    const std::uint64_t before = store_.cache()->stats().bytes_read;
    const Clock::time_point start = Clock::now();
    for (std::size_t count = 0; count < least_experts; count += at_a_time) step();
    return static_cast<double>(store_.cache()->stats().bytes_read - before) / seconds_since(start);
  }

 private:
  std::vector<std::int32_t> chosen(std::size_t turn) const {
    const std::vector<std::int32_t>& all = choice_[turn % layers_.size()];
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < std::min(at_a_time, all.size()); ++i)
      ids.push_back(all[(turn / layers_.size() * at_a_time + i) % all.size()]);
    std::sort(ids.begin(), ids.end());
    return ids;
  }

  void step() {
    const ExpertLayer& layer = layers_[turn_ % layers_.size()];
    const std::vector<std::int32_t> ids = chosen(turn_), next = chosen(turn_ + 1);
    std::vector<std::int32_t> first(static_cast<std::size_t>(layer.experts) + 1);
    for (const std::int32_t id : ids) first[static_cast<std::size_t>(id) + 1] = 1;
    std::partial_sum(first.begin(), first.end(), first.begin());
    store_.demand({.layer = layer.layer, .rows = 1, .experts = ids, .first = first.data()});
    store_.hint({.layer = layers_[(turn_ + 1) % layers_.size()].layer, .experts = next});
    for (const std::int32_t id : ids) store_.acquire(layer.layer, id);
    ++turn_;
  }

  ExpertStore& store_;
  const std::vector<ExpertLayer>& layers_;
  std::vector<std::vector<std::int32_t>> choice_;
  std::mt19937 random_{1};
  std::size_t turn_ = 0;
};

int run(const std::filesystem::path& folder, int rounds) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const Family& family = family_of(checkpoint.config_text(), "config.json", &checkpoint);
  const std::vector<ExpertLayer> layers = expert_layers(family.parse_config(checkpoint.config_text(), "config.json"));
  WeightStore weights(checkpoint, {.headers_only = true});
  ExpertStore store(weights, layers);
  store.stream({.bytes = 4 * at_a_time * store.slot_bytes()});
  Walk walk(store, layers);
  const std::size_t bytes = store.cache()->stats().expert_bytes;
  DiskRate disk(bytes);
  std::vector<std::filesystem::path> files;
  for (const auto& file : checkpoint.files()) files.emplace_back(file->path());
  std::vector<double> rates, ratios;
  walk.round();
  for (int round = 0; round < rounds; ++round) {
    const double before = disk.random(files, bytes, probe_bytes, static_cast<std::uint64_t>(2 * round));
    rates.push_back(walk.round());
    const double after = disk.random(files, bytes, probe_bytes, static_cast<std::uint64_t>(2 * round + 1));
    ratios.push_back(rates.back() * (1 / before + 1 / after) / 2);
    fmt::print("{:6.2f} GB/s by the store, {:.2f} and {:.2f} raw: {:.3f}\n", 1e-9 * rates.back(), 1e-9 * before,
               1e-9 * after, ratios.back());
  }
  fmt::print("{:6.2f} GB/s by the store, in pieces of {} bytes; of the raw rate {:.3f} (medians)\n",
             1e-9 * median(rates), bytes, median(ratios));
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace millrace

int main(int count, char** arguments) {
  try {
    millrace::require(count >= 2, millrace::Errc::bad_argument, "expert_reads_bench FOLDER [ROUNDS]");
    return millrace::run(arguments[1], count > 2 ? std::atoi(arguments[2]) : 7);
  } catch (const std::exception& error) {
    fmt::print(stderr, "expert_reads_bench: {}\n", error.what());
    return EXIT_FAILURE;
  }
}
