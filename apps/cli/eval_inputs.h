// What `millrace eval` can bring into a pass beside token ids, from files.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "model/call_inputs.h"

namespace millrace {

class Engine;

class InputFlags {
 public:
  // --embeds, --mask, --pad-left, --force-experts
  void add_to(CLI::App& app, const std::string& group);

  // Whether any of them was given.
  bool any() const noexcept {
    return has_embeddings() || !mask_file_.empty() || pad_left_ > 0 || !experts_file_.empty();
  }
  bool has_embeddings() const noexcept { return !embeddings_file_.empty(); }
  std::int64_t padding() const noexcept { return pad_left_; }  // rows in front

  // Reads the files. `tokens` are those of the prompt, padding included; -1 when embeddings bring the rows.
  // Throws Error naming the file and the tensor.
  void read(const Engine& engine, std::int64_t tokens);

  // Rows of the call.
  std::int64_t rows() const noexcept { return rows_; }
  // Views of what was read.
  ForwardInputs inputs() const;
  // (rows) 0 = padding; empty without padding.
  const std::vector<std::uint8_t>& padding_mask() const noexcept { return padding_; }

 private:
  struct Mask {
    std::string kind;
    std::vector<std::uint8_t> visible;
    std::vector<float> additive;
  };
  struct Experts {
    int layer;
    std::vector<std::int32_t> ids;
    std::vector<float> weights;
  };

  void read_embeddings(const Engine& engine);
  void read_masks();
  void read_experts();

  std::string embeddings_file_, mask_file_, experts_file_;
  std::int64_t pad_left_ = 0, rows_ = 0;
  std::vector<float> embeddings_;
  std::vector<std::uint8_t> padding_;
  std::deque<Mask> masks_;
  std::deque<Experts> experts_;
  std::vector<LayerMask> mask_views_;
  std::vector<LayerExperts> expert_views_;
};

}  // namespace millrace
