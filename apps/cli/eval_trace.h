// EvalTrace: the step outputs that `eval --trace` asks for, of the main model and of its multi-token-prediction layers,
// written to a file as they are computed. Used by the computing thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "apps/common/dump.h"
#include "loader/safetensors_writer.h"
#include "model/call_inputs.h"
#include "model/engine.h"
#include "runtime/observer.h"

namespace millrace {

class EvalTrace {
 public:
  // `engine` must outlive it; `rows` is the length of the prompt, `logits_rows` how many of them want logits. Throws
  // Error(bad_argument) for a pattern that chooses nothing, or only what so short a prompt has no rows of.
  EvalTrace(const Engine& engine, const std::vector<std::string>& patterns, std::int64_t rows,
            std::int64_t logits_rows);

  // The tensors it will append.
  const std::vector<TensorHeader>& tensors() const noexcept { return tensors_; }
  // From now on everything goes to `file`, which declares tensors() and lies at `path`; it must outlive this.
  void write_to(SafetensorsAssembler& file, const std::filesystem::path& path);

  // For the pass over the prompt.
  Observer& observer() noexcept { return writer_; }
  // After it: what is wanted of the prediction layers. `inputs` are those of the pass.
  void finish(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions,
              const ForwardInputs& inputs);

 private:
  // Appends the values it was told of.
  class Writer final : public Observer {
   public:
    void add(const Program& program, ValueId value, SafetensorsAssembler& file) { files_[{&program, value}] = &file; }
    void after(const Program& program, const Step& step, const StepContext& context) override;

   private:
    std::map<std::pair<const Program*, ValueId>, SafetensorsAssembler*> files_;
  };

  void declare(const Program& program, std::span<const ValueId> values, std::int64_t rows, std::int64_t logits_rows);
  const Program& mtp_program(std::size_t index) const { return engine_.mtp_programs()[index]; }

  const Engine& engine_;
  const std::int64_t rows_;
  std::vector<std::vector<ValueId>> chosen_;  // of the main Program, then of each prediction layer's
  std::vector<TensorHeader> tensors_;
  Writer writer_;
  // Where the main model's last hidden states are, which prediction layers start from: the dump, or a file that is gone
  // when this is.
  SafetensorsAssembler* hidden_ = nullptr;
  std::unique_ptr<SafetensorsAssembler> scratch_;
};

}  // namespace millrace
