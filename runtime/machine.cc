#include "runtime/machine.h"

#include <fstream>
#include <string>
#include <string_view>

namespace millrace {

std::uint64_t available_memory() noexcept {
  try {
    std::ifstream file("/proc/meminfo");
    std::string key;
    std::uint64_t kilobytes = 0;
    while (file >> key) {
      if (key == "MemAvailable:") return file >> kilobytes ? kilobytes * 1024 : 0;
      file.ignore(4096, '\n');
    }
  } catch (const std::exception&) {
  }
  return 0;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  constexpr std::string_view key = "model name\t: ";
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return line.substr(key.size());
  return "unknown processor";
}

}  // namespace millrace
