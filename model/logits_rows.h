// LogitsRows: which of the new rows of a call want logits: the last few, all, or chosen ones. A value; chosen rows are
// borrowed.
#pragma once

#include <cstdint>
#include <span>

namespace millrace {

class LogitsRows {
 public:
  // The last `count` rows, or as many as there are.
  LogitsRows(std::int64_t count) : last_(count) {}  // NOLINT: a number means that many
  static LogitsRows all() { return LogitsRows(INT64_MAX); }
  static LogitsRows none() { return LogitsRows(0); }
  // Strictly ascending rows of the call, from 0.
  static LogitsRows of(std::span<const std::int32_t> rows) { return LogitsRows(rows); }
  // The rule of Transformers' logits_to_keep: 0 means all.
  static LogitsRows keep(std::int64_t count) { return count == 0 ? all() : LogitsRows(count); }

  // How many rows these are in a call of `rows`.
  std::int64_t count(std::int64_t rows) const noexcept {
    if (chosen_.data() != nullptr) return static_cast<std::int64_t>(chosen_.size());
    return last_ < 0 ? 0 : last_ < rows ? last_ : rows;
  }
  // The row of the call that entry `index` of the logits belongs to.
  std::int64_t row(std::int64_t index, std::int64_t rows) const noexcept {
    return chosen_.data() != nullptr ? chosen_[static_cast<std::size_t>(index)] : rows - count(rows) + index;
  }
  // Throws Error(bad_argument) for chosen rows that are no rows of the call or do not ascend.
  void check(std::int64_t rows) const;

 private:
  explicit LogitsRows(std::span<const std::int32_t> rows) : chosen_(rows) {}

  std::int64_t last_ = 0;
  std::span<const std::int32_t> chosen_;  // without data: the last ones
};

}  // namespace millrace
