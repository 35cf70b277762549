#include "model/logits_rows.h"

#include "runtime/error.h"

namespace millrace {

void LogitsRows::check(std::int64_t rows) const {
  for (std::size_t i = 0; i < chosen_.size(); ++i) {
    require(chosen_[i] >= 0 && chosen_[i] < rows, Errc::bad_argument, "logits of row {}, expected 0 to {}", chosen_[i],
            rows - 1);
    require(i == 0 || chosen_[i] > chosen_[i - 1], Errc::bad_argument,
            "logits of row {} after row {}, expected an "
            "ascending list",
            chosen_[i], chosen_[i - 1]);
  }
}

}  // namespace millrace
