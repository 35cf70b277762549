// What the machine has to give at this moment, and how fast.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace millrace {

// Bytes that can be taken without swapping: the kernel's MemAvailable, or less where a control group (cgroup v1 or v2)
// this process is in, or one above it, allows less. 0 if the system does not say.
std::uint64_t available_memory() noexcept;

// What the processor calls itself; "unknown processor" if the system does not say.
std::string processor_name();

// The part of it that control groups decide: `membership` is /proc/self/cgroup, `root` where groups are mounted.
// UINT64_MAX if they set no limit. Memory that a group uses as page cache counts as available.
std::uint64_t available_in_groups(const std::filesystem::path& membership, const std::filesystem::path& root) noexcept;

// Bytes of memory this process has at this moment (VmRSS), and at most so far (VmHWM). 0 if the system does not say.
std::uint64_t resident_memory() noexcept;
std::uint64_t peak_resident_memory() noexcept;

// What it reaches at best; the defaults are those of a plain computer of today.
struct MachineRates {
  double disk = 2e9;      // bytes per second, large reads
  double memory = 20e9;   // bytes per second, one stream per thread
  double compute = 2e11;  // flops per second, all threads
  bool measured = false;
};

}  // namespace millrace
