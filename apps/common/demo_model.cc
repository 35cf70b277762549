#include "apps/common/demo_model.h"

#include <system_error>

#include "runtime/error.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

bool is_model(const fs::path& folder) {
  std::error_code unreadable;  // as good as absent
  return fs::is_regular_file(folder / "config.json", unreadable);
}

}  // namespace

std::optional<fs::path> find_demo_model(const fs::path& program) {
  const fs::path installed = program.parent_path() / "share" / "millrace" / "millrace-demo";
  if (is_model(installed)) return installed;
  for (fs::path above = program;; above = above.parent_path()) {
    const fs::path source = above / "apps" / "demo" / "millrace-demo";
    if (is_model(source)) return source;
    if (above == above.parent_path()) return std::nullopt;
  }
}

fs::path demo_model_folder() {
  std::error_code failure;
  const fs::path program = fs::read_symlink("/proc/self/exe", failure).parent_path();
  require(!failure, Errc::not_found, "the demonstration model: /proc/self/exe cannot be read ({})", failure.message());
  const std::optional<fs::path> folder = find_demo_model(program);
  require(folder.has_value(), Errc::not_found,
          "the demonstration model is neither in {} nor in apps/demo/millrace-demo of a folder above {}; name a model",
          (program.parent_path() / "share/millrace").string(), program.string());
  return *folder;
}

}  // namespace millrace
