// What the machine has to give at this moment.
#pragma once

#include <cstdint>
#include <string>

namespace millrace {

// Bytes that can be taken without swapping: the kernel's MemAvailable. 0 if the system does not say.
std::uint64_t available_memory() noexcept;

// What the processor calls itself; "unknown processor" if the system does not say.
std::string processor_name();

}  // namespace millrace
