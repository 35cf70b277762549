// SessionFile: the file of `generate --session`: restores a session at the start, says what of a prompt it saves, keeps
// the session at the end. Used by one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/generate.h"
#include "model/session.h"

namespace millrace {

class SessionFile {
 public:
  // Restores `session`, which is empty, if the file exists. Throws Error, the file untouched: what Session::load
  // throws; io if the file's folder cannot be written to.
  SessionFile(const std::string& path, Session& session);

  // Whether there was something to go on with.
  bool restored() const noexcept { return restored_; }

  // The tokens to compute for `prompt`, the others being held already. An empty prompt goes on where the session ended;
  // with `append` the prompt follows what it holds, else it is the whole text and what the session holds beyond the
  // beginning that both share is forgotten. Throws Error(bad_argument) if both share nothing.
  std::vector<std::int32_t> begin(std::span<const std::int32_t> prompt, bool append);

  // Tokens that begin() did not return because the session holds them.
  std::int64_t kept() const noexcept { return kept_; }

  // Writes the session, with all that was drawn but a final stop token. Throws Error(io); an older file is then intact.
  void save(const GenerateResult& result) const;

 private:
  std::string path_;
  Session& session_;
  bool restored_ = false;
  std::int64_t kept_ = 0;
};

}  // namespace millrace
