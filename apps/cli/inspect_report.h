// What `millrace inspect` found out, and the two ways to show it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/checkpoint.h"
#include "loader/checksums.h"
#include "loader/verify.h"
#include "model/engine.h"

namespace millrace {

struct Inspection {
  std::shared_ptr<const Engine> engine;              // null for a single file, or where the model cannot be built
  std::shared_ptr<const Checkpoint> own_checkpoint;  // where there is no engine
  std::optional<Verification> verification;          // after --verify
  std::vector<FileChecksum> files;                   // after --checksums
  std::vector<TensorChecksum> tensors;               // after --checksums --tensors
  bool list_tensors = false;

  const Checkpoint& checkpoint() const { return engine ? engine->checkpoint() : *own_checkpoint; }
};

std::string inspection_text(const Inspection& inspection);
std::string inspection_json(const Inspection& inspection);

}  // namespace millrace
