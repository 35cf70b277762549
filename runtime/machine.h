// What the machine has to give at this moment.
#pragma once

#include <cstdint>

namespace millrace {

// Bytes that can be taken without swapping: the kernel's MemAvailable. 0 if the system does not say.
std::uint64_t available_memory() noexcept;

}  // namespace millrace
