#include "apps/common/machine_probe.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "loader/atomic_file.h"
#include "loader/checkpoint.h"
#include "loader/disk_rate.h"
#include "loader/text_file.h"
#include "ops/ceilings.h"
#include "runtime/error.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t disk_bytes = std::uint64_t{512} << 20;
constexpr std::size_t expert_piece = std::size_t{6} << 20;  // about an expert
constexpr std::size_t memory_bytes = std::size_t{256} << 20;
constexpr std::uint64_t least_file = std::uint64_t{64} << 20;
constexpr double peak_seconds = 0.05;
constexpr std::array<const char*, 3> rate_names = {"disk", "memory", "compute"};

// Files whose data are really on the disk, and enough of them to tell its rate.
std::vector<fs::path> files_to_probe(const Checkpoint& checkpoint) {
  std::vector<fs::path> files;
  for (const auto& file : checkpoint.files()) {
    struct stat status {};
    const bool dense = stat(file->path().c_str(), &status) == 0 &&
                       static_cast<std::uint64_t>(status.st_blocks) * 512 >= file->file().bytes() / 10 * 9;
    if (dense && file->file().bytes() >= least_file) files.emplace_back(file->path());
  }
  return files;
}

// What rates depend on.
std::string rates_key(const fs::path& model, int threads, bool disk) {
  struct stat status {};
  const bool found = disk && stat(model.c_str(), &status) == 0;
  return fmt::format("{}, {}, {} threads, {}", processor_name(), name_of(active_isa()), threads,
                     found ? fmt::format("disk {}", static_cast<std::uint64_t>(status.st_dev)) : "no disk");
}

nlohmann::json known_machines() {
  try {
    nlohmann::json machines = nlohmann::json::parse(read_text_file(rates_file(), 1 << 20), nullptr, false);
    if (machines.is_object()) return machines;
  } catch (const Error&) {
  }
  return nlohmann::json::object();
}

std::array<double*, 3> values_of(MachineRates& rates) {
  return {&rates.disk, &rates.memory, &rates.compute};
}

}  // namespace

bool measures_disk(const Checkpoint& checkpoint) {
  return !files_to_probe(checkpoint).empty();
}

MachineRates measure_rates(const Checkpoint& checkpoint, const Parallel& parallel) {
  MachineRates rates{.measured = true};
  if (const std::vector<fs::path> files = files_to_probe(checkpoint); !files.empty())
    rates.disk = DiskRate().random(files, expert_piece, disk_bytes, /*seed=*/1);
  const ReadCeiling memory(memory_bytes);
  std::array<double, 3> rounds{};
  for (double& round : rounds) round = memory.measure(parallel);
  std::sort(rounds.begin(), rounds.end());
  rates.memory = rounds[1];
  rates.compute = 0;
  for (const MultiplyPeak& peak : multiply_peaks())
    rates.compute = std::max(rates.compute, measure_peak(peak, parallel, peak_seconds));
  return rates;
}

fs::path rates_file() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return fs::path(cache) / "millrace" / "machine.json";
  const char* home = std::getenv("HOME");
  return home != nullptr && *home == '/' ? fs::path(home) / ".cache" / "millrace" / "machine.json" : fs::path();
}

std::optional<MachineRates> known_rates(const fs::path& model, int threads, bool disk) {
  const nlohmann::json machines = known_machines();
  const auto found = machines.find(rates_key(model, threads, disk));
  if (found == machines.end() || !found->is_object()) return std::nullopt;
  MachineRates rates{.measured = true};
  for (std::size_t i = 0; i < rate_names.size(); ++i) {
    const auto value = found->find(rate_names[i]);
    if (value == found->end() || !value->is_number() || !(value->get<double>() > 1e3)) return std::nullopt;
    *values_of(rates)[i] = value->get<double>();
  }
  return rates;
}

void remember_rates(const fs::path& model, int threads, bool disk, const MachineRates& rates) {
  const fs::path path = rates_file();
  if (path.empty()) return;
  nlohmann::json machines = known_machines();
  machines[rates_key(model, threads, disk)] = {
      {"disk", rates.disk}, {"memory", rates.memory}, {"compute", rates.compute}};
  std::error_code ignored;
  fs::create_directories(path.parent_path(), ignored);
  try {
    AtomicFile file(path);
    const std::string text = machines.dump(2) + "\n";
    file.write(std::as_bytes(std::span(text)));
    file.finish();
  } catch (const Error&) {
  }
}

}  // namespace millrace
