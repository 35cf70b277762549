// Which variant of every numeric kernel this process runs, to show users.
#pragma once

#include <string_view>
#include <vector>

#include "ops/isa.h"

namespace millrace {

struct KernelChoice {
  std::string_view name;
  Isa isa;  // the tier whose variant runs
};

std::vector<KernelChoice> chosen_kernels();

}  // namespace millrace
