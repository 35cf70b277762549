// Where the demonstration model lies that programs use when no model is named. Safe from any thread.
#pragma once

#include <filesystem>
#include <optional>

namespace millrace {

// The demonstration model's folder, found from where the running program itself lies, so that neither an installed tree
// nor a source tree minds being moved. Throws Error(not_found) saying where it was looked for.
std::filesystem::path demo_model_folder();

// The same for a program in the folder `program`: ../share/millrace/millrace-demo beside an installed bin/, else
// apps/demo/millrace-demo in `program` or a folder above it, which is a source tree with its build tree inside.
std::optional<std::filesystem::path> find_demo_model(const std::filesystem::path& program);

}  // namespace millrace
