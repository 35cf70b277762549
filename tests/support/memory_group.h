// A control group that holds the process which enters it to a limit of memory, where the system lets a test make one:
// the kernel ends a process that needs more. Groups are named after the process that waits for the one inside.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace millrace::test {

class MemoryGroup {
 public:
  // Moves this process into a group of its own; none where that is not allowed. The process must be a child.
  static std::optional<MemoryGroup> enter() {
    for (const auto& [path, v2] : places()) {
      const MemoryGroup group(path / name_of(getppid()), v2);
      std::error_code failure;
      if (!std::filesystem::create_directory(group.path_, failure)) continue;
      if (std::filesystem::exists(group.path_ / group.limit_file()) &&
          write(group.path_ / "cgroup.procs", std::to_string(getpid())))
        return group;
      std::filesystem::remove(group.path_, failure);
    }
    return std::nullopt;
  }

  // Of all memory that is taken from now on, by what the processes read from files last of all. Without swapping.
  bool limit(std::uint64_t bytes) const {
    const std::string text = std::to_string(bytes);
    const bool limited = write(path_ / limit_file(), text);
    write(path_ / (v2_ ? "memory.swap.max" : "memory.memsw.limit_in_bytes"), v2_ ? "0" : text);
    return limited;
  }

  // The groups that children of this process have left behind.
  static void remove_all() {
    std::error_code ignored;
    for (const auto& [path, v2] : places()) std::filesystem::remove(path / name_of(getpid()), ignored);
  }

 private:
  struct Place {
    std::filesystem::path path;
    bool v2;
  };

  MemoryGroup(std::filesystem::path path, bool v2) : path_(std::move(path)), v2_(v2) {}

  static std::string name_of(pid_t process) { return "millrace-test-" + std::to_string(process); }
  const char* limit_file() const { return v2_ ? "memory.max" : "memory.limit_in_bytes"; }

  // Where groups may be made: in the one this process is in, or beside it.
  static std::vector<Place> places() {
    const std::filesystem::path root = "/sys/fs/cgroup";
    std::vector<Place> found;
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
      std::istringstream fields(line);
      std::string number, controllers, group;
      std::getline(fields, number, ':');
      std::getline(fields, controllers, ':');
      std::getline(fields, group);
      const bool v2 = controllers.empty();
      if (!v2 && ("," + controllers + ",").find(",memory,") == std::string::npos) continue;
      const std::filesystem::path mount = v2 ? root : root / "memory";
      found.push_back({mount / std::filesystem::path(group).relative_path(), v2});
      found.push_back({mount, v2});
    }
    return found;
  }

  static bool write(const std::filesystem::path& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    file.close();
    return !file.fail();
  }

  std::filesystem::path path_;
  bool v2_;
};

}  // namespace millrace::test
