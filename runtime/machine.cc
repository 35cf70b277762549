#include "runtime/machine.h"

#include <fstream>
#include <string>

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

}  // namespace millrace
