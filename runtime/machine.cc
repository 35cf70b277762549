#include "runtime/machine.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

namespace millrace {
namespace {

namespace fs = std::filesystem;

// The number of kilobytes behind `key` in one of the kernel's tables, in bytes; 0 if it is not there.
std::uint64_t table_entry(const char* file_name, const std::string& key) noexcept {
  try {
    std::ifstream file(file_name);
    std::string word;
    std::uint64_t kilobytes = 0;
    while (file >> word) {
      if (word == key) return file >> kilobytes ? kilobytes * 1024 : 0;
      file.ignore(4096, '\n');
    }
  } catch (const std::exception&) {
  }
  return 0;
}

// The number a file consists of; none for "max", another text, or no such file.
std::optional<std::uint64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// Of a group's memory the files it has read and could drop.
std::uint64_t page_cache_of(const fs::path& group, bool v2) {
  std::ifstream file(group / "memory.stat");
  std::string key;
  std::uint64_t value = 0, sum = 0;
  while (file >> key >> value)
    if (key == (v2 ? "inactive_file" : "total_inactive_file") || key == (v2 ? "active_file" : "total_active_file"))
      sum += value;
  return sum;
}

// What the group leaves to its processes.
std::uint64_t available_in_group(const fs::path& group, bool v2) {
  const auto limit = number_in(group / (v2 ? "memory.max" : "memory.limit_in_bytes"));
  const auto used = number_in(group / (v2 ? "memory.current" : "memory.usage_in_bytes"));
  if (!limit || !used) return UINT64_MAX;
  const std::uint64_t taken = *used - std::min(*used, page_cache_of(group, v2));
  return *limit - std::min(*limit, taken);
}

// The group and all above it.
std::uint64_t available_along(const fs::path& mount, const std::string& group, bool v2) {
  std::uint64_t least = available_in_group(mount, v2);
  fs::path path = mount;
  for (const fs::path& part : fs::path(group).relative_path()) {
    if (part == "..") break;  // a group outside of what a container sees
    path /= part;
    least = std::min(least, available_in_group(path, v2));
  }
  return least;
}

}  // namespace

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  constexpr std::string_view key = "model name\t: ";
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return line.substr(key.size());
  return "unknown processor";
}

std::uint64_t available_in_groups(const fs::path& membership, const fs::path& root) noexcept {
  std::uint64_t least = UINT64_MAX;
  try {
    std::ifstream file(membership);
    for (std::string line; std::getline(file, line);) {
      std::istringstream fields(line);
      std::string number, controllers, group;
      if (!std::getline(fields, number, ':') || !std::getline(fields, controllers, ':')) continue;
      std::getline(fields, group);
      if (controllers.empty()) least = std::min(least, available_along(root, group, true));
      if (("," + controllers + ",").find(",memory,") != std::string::npos)
        least = std::min(least, available_along(root / "memory", group, false));
    }
  } catch (const std::exception&) {
  }
  return least;
}

std::uint64_t available_memory() noexcept {
  return std::min(table_entry("/proc/meminfo", "MemAvailable:"),
                  available_in_groups("/proc/self/cgroup", "/sys/fs/cgroup"));
}

std::uint64_t resident_memory() noexcept {
  return table_entry("/proc/self/status", "VmRSS:");
}

std::uint64_t peak_resident_memory() noexcept {
  return table_entry("/proc/self/status", "VmHWM:");
}

}  // namespace millrace
