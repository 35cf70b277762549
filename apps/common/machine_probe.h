// MachineRates measured in a second or so, and kept in a file of the user's cache folder for later calls.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "loader/checkpoint.h"
#include "runtime/machine.h"
#include "runtime/parallel.h"

namespace millrace {

// What this machine can do at best: reads of the size of experts around the page cache from the files of `checkpoint`,
// memory that no cache holds, multiplications. Without data to read (absent or sparse files) the
// disk keeps its stated rate. Throws Error(io), Error(out_of_memory).
MachineRates measure_rates(const Checkpoint& checkpoint, const Parallel& parallel);

// Whether there are such data.
bool measures_disk(const Checkpoint& checkpoint);

// What was measured before with the same processor, tier, threads and disk; or, `disk` being false, without measuring
// any. None without such a file.
std::optional<MachineRates> known_rates(const std::filesystem::path& model, int threads, bool disk = true);
// Remembers them; where that is not possible nothing happens.
void remember_rates(const std::filesystem::path& model, int threads, bool disk, const MachineRates& rates);

// $XDG_CACHE_HOME/millrace/machine.json, or in ~/.cache; empty where there is no home.
std::filesystem::path rates_file();

}  // namespace millrace
