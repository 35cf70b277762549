#include "apps/cli/session_file.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "runtime/error.h"

namespace millrace {
namespace {

// Before hours are spent on what could not be kept.
void check_folder(const std::string& path) {
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const bool writable = access(folder.c_str(), W_OK | X_OK) == 0;
  require(writable, Errc::io, "{}: nothing can be written to its folder: {}", path,
          std::generic_category().message(errno));
}

}  // namespace

SessionFile::SessionFile(const std::string& path, Session& session) : path_(path), session_(session) {
  check_folder(path_);
  if (!std::filesystem::exists(path_)) return;
  session_.load(path_);
  restored_ = session_.length() > 0;
}

std::vector<std::int32_t> SessionFile::begin(std::span<const std::int32_t> prompt, bool append) {
  std::vector<std::int32_t> all(prompt.begin(), prompt.end());
  const auto held = session_.tokens();
  if (append || prompt.empty()) all.insert(all.begin(), held.begin(), held.end());
  require(!all.empty(), Errc::bad_argument, "{}: there is no such session yet, and no prompt to begin one with", path_);
  require(held.empty() || held[0] == all[0], Errc::bad_argument,
          "{}: holds {} tokens of another text than the prompt; --append lets the prompt follow them, another file "
          "begins anew",
          path_, held.size());
  kept_ = session_.keep_beginning_of(all);
  return {all.begin() + kept_, all.end()};
}

void SessionFile::save(const GenerateResult& result) const {
  // The last token that was drawn has not been computed, nor has a full context room for it.
  const bool has_room = session_.length() < session_.engine().context();
  if (has_room && !result.ids.empty() && result.finish_reason != FinishReason::stop)
    session_.append(std::span(result.ids).last(1));
  session_.save(path_);
}

}  // namespace millrace
