// Drafter: guesses the tokens that follow a sequence, with the multi-token-prediction layers of the model. It keeps the
// main model's last hidden states and what each layer saw of the sequence; a layer that fell behind catches up when it
// is asked, as far back as its window reaches. What it guesses is never wrong to use, only useless: the main model
// decides. Belongs to one session; used by one thread at a time. A guess allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/mtp_layer.h"

namespace millrace {

// The last rows of a growing array: rows [begin, end) of `width` values each.
class LastRows {
 public:
  LastRows(std::int64_t capacity, std::int64_t width);

  std::int64_t begin() const noexcept { return begin_; }
  std::int64_t end() const noexcept { return end_; }

  // Appends rows [first, first + rows); what is held must end there, or all of it is forgotten.
  void append(std::int64_t first, std::int64_t rows, const float* values) noexcept;
  // Forgets the rows from `rows` on.
  void truncate(std::int64_t rows) noexcept;
  // Rows [first, first + rows), which must be held.
  void copy(std::int64_t first, std::int64_t rows, float* target) const noexcept;

 private:
  std::int64_t capacity_, width_, begin_ = 0, end_ = 0;
  std::vector<float> values_;
};

class Drafter {
 public:
  // One guess per layer that `engine`, which must outlive it, has loaded; there must be some.
  explicit Drafter(const Engine& engine);
  // Bytes that one of an engine with these prediction layers takes.
  static std::uint64_t bytes_for(std::span<const Program> programs, const ModelConfig& config, MtpWiring wiring,
                                 Dtype kv_dtype, std::int64_t context, int threads);

  int layers() const noexcept { return static_cast<int>(layers_.size()); }

  // The main model computed rows [first, first + positions.size()) of the sequence; hidden: (rows, hidden), before the
  // final norm.
  void take(std::int64_t first, std::span<const std::int32_t> positions, const float* hidden) noexcept;
  // The sequence lost its rows from `rows` on.
  void truncate(std::int64_t rows);

  // Whether guess() may be called: the last row is known.
  bool ready() const noexcept { return main().end() > main().begin(); }

  // Lets the first `layers` layers see what they missed of `tokens`, which are as for guess(0), if that is more than
  // they get to see between two guesses. Only guess() needs it, and calls for it; apart it can be timed apart.
  void catch_up(int layers, std::span<const std::int32_t> tokens, Observer* observer = nullptr);

  // The logits, (vocab), of Engine::draft_programs() that layer `index` gives the token after `tokens`: the sequence's
  // rows taken so far, one token that followed, and `index` guesses of the layers before this one. Layers are asked in
  // order, from 0. The result is valid until the next call. Throws what Program::run throws; the next call works again.
  std::span<const float> guess(int index, std::span<const std::int32_t> tokens, Observer* observer = nullptr);

 private:
  struct Layer {
    MtpLayer layer;
    std::int64_t base = 0;  // the sequence's row that is the first of its cache
    std::int64_t next() const noexcept { return base + layer.length(); }
  };

  const LastRows& main() const noexcept { return states_.front(); }
  const LastRows& source(int index) const noexcept { return states_[wiring_ == MtpWiring::chained ? index : 0]; }
  void keep_true_rows(std::span<const std::int32_t> tokens);
  void cut(int index, std::int64_t rows);
  std::span<const float> feed(int index, std::int64_t end, std::span<const std::int32_t> tokens, Observer* observer);

  MtpWiring wiring_;
  std::int64_t window_;  // rows that matter to a guess
  std::vector<Layer> layers_;
  std::vector<LastRows> states_;         // of the main model; chained: also what left each layer
  std::vector<std::int32_t> positions_;  // of the last rows, row r at r % size
  std::vector<std::int32_t> batch_positions_;
  // What the layers were told beyond the tokens of the sequence: its length then, and the guesses.
  std::int64_t known_ = 0;
  std::vector<std::int32_t> guessed_;
};

}  // namespace millrace
