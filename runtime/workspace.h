// Workspace: one arena for all values of a pass, sized for the largest batch, in which values whose lifetimes do not
// overlap share memory. Belongs to one computing thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/program.h"

namespace millrace {

struct WorkspaceLimits {
  std::int64_t rows = 1;         // most rows of a batch
  std::int64_t logits_rows = 1;  // most rows that want logits
  int threads = 1;
};

class Workspace {
 public:
  // `program` must outlive the workspace. Throws Error(out_of_memory).
  Workspace(const Program& program, const WorkspaceLimits& limits);

  const WorkspaceLimits& limits() const noexcept { return limits_; }
  std::size_t bytes() const noexcept { return arena_.bytes(); }

  // Pointers of a step's inputs and outputs, in the order of the step.
  std::span<const std::byte* const> inputs(std::size_t step) const;
  std::span<std::byte* const> outputs(std::size_t step) const;
  // The rows of an input of the program, before a pass, or of a kept value, after it.
  std::byte* data(ValueId value) { return values_[static_cast<std::size_t>(value)]; }
  const std::byte* data(ValueId value) const { return values_[static_cast<std::size_t>(value)]; }
  std::span<std::byte> scratch() noexcept {
    return {arena_.data() + scratch_offset_, arena_.bytes() - scratch_offset_};
  }

  // Bytes a workspace of these limits takes, without taking them.
  static std::size_t bytes_for(const Program& program, const WorkspaceLimits& limits);

 private:
  WorkspaceLimits limits_;
  Buffer arena_;
  std::size_t scratch_offset_ = 0;
  std::vector<std::byte*> values_;           // of each value
  std::vector<std::byte*> pointers_;         // inputs then outputs of each step, one after the other
  std::vector<std::size_t> first_pointer_;   // of each step
  std::vector<std::size_t> inputs_of_step_;  // number of inputs of each step
};

}  // namespace millrace
