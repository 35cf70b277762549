#include "loader/expert_policy.h"

#include <algorithm>
#include <cmath>

namespace millrace {
namespace {

constexpr std::array<double, 5> half_rows = {2, 8, 32, 128, 512};  // rows after which a use counts half
constexpr double age_unit = 8;                                     // rows after which the sign of age is halved
constexpr double fit_rows = 200;                                   // rows whose passes the fit remembers
constexpr std::int64_t fit_passes = 32;                            // from one fit to the next
constexpr int stay = 2;                                            // tokens that an expert is expected to stay

}  // namespace

std::vector<std::size_t> expert_offsets(std::span<const std::int32_t> experts) {
  std::vector<std::size_t> first(experts.size() + 1);
  for (std::size_t layer = 0; layer < experts.size(); ++layer)
    first[layer + 1] = first[layer] + static_cast<std::size_t>(experts[layer]);
  return first;
}

FrequencyPolicy::FrequencyPolicy(std::span<const std::int32_t> experts)
    : first_(expert_offsets(experts)), accounts_(first_.back()) {
  static_assert(half_rows.size() == rates);
  before_.resize(static_cast<std::size_t>(experts.empty() ? 0 : *std::max_element(experts.begin(), experts.end())));
  for (const std::int32_t count : experts) {
    turn_.push_back(turns_);
    turns_ += count > 0;
  }
  keep_ = std::exp(-1 / (fit_rows * std::max(turns_, 1)));
  weights_.fill(1.0 / signs);
}

FrequencyPolicy::Signs FrequencyPolicy::signs_of(const Account& account) noexcept {
  Signs signs_now;
  std::copy(account.shares.begin(), account.shares.end(), signs_now.begin());
  signs_now[rates] = 1 / (1 + account.age / age_unit);
  return signs_now;
}

void FrequencyPolicy::pass(int layer, std::int64_t rows) noexcept {
  const std::size_t begin = first_[static_cast<std::size_t>(layer)], end = first_[static_cast<std::size_t>(layer) + 1];
  turn_now_ = turn_[static_cast<std::size_t>(layer)];
  pass_rows_ = static_cast<double>(std::max<std::int64_t>(rows, 1));
  for (std::size_t rate = 0; rate < rates; ++rate) fresh_[rate] = 1 - std::exp2(-pass_rows_ / half_rows[rate]);
  if (++passes_ % fit_passes == 0) fit();
  for (std::size_t i = 0; i < signs; ++i) {
    for (double& product : products_[i]) product *= keep_;
    targets_[i] *= keep_;
  }
  for (std::size_t expert = begin; expert < end; ++expert) {
    Account& account = accounts_[expert];
    const Signs before = before_[expert - begin] = signs_of(account);
    for (std::size_t i = 0; i < signs; ++i)
      for (std::size_t j = 0; j < signs; ++j) products_[i][j] += before[i] * before[j];
    for (std::size_t rate = 0; rate < rates; ++rate) account.shares[rate] *= 1 - fresh_[rate];
    account.age += pass_rows_;
  }
}

// The rows that want the expert count as if they were spread evenly over the pass.
void FrequencyPolicy::use(int layer, int expert, std::int64_t rows) noexcept {
  Account& account = accounts_[first_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert)];
  const double share = static_cast<double>(rows) / pass_rows_;
  const Signs& before = before_[static_cast<std::size_t>(expert)];
  for (std::size_t i = 0; i < signs; ++i) targets_[i] += share * before[i];
  for (std::size_t rate = 0; rate < rates; ++rate) account.shares[rate] += share * fresh_[rate];
  account.age = 0;
}

double FrequencyPolicy::worth(int layer, int expert) const noexcept {
  const Signs now = signs_of(accounts_[first_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert)]);
  double worth = 0;
  for (std::size_t i = 0; i < signs; ++i) worth += weights_[i] * now[i];
  if (worth <= 0) return worth;
  const int ahead = turn_[static_cast<std::size_t>(layer)] - turn_now_;
  return worth / (stay * turns_ + (ahead > 0 ? ahead : ahead + turns_));
}

// Solves the normal equations with a little weight on equal parts, which decides while nothing is known.
void FrequencyPolicy::fit() noexcept {
  double trace = 0;
  for (std::size_t i = 0; i < signs; ++i) trace += products_[i][i];
  const double ridge = 1e-3 * trace / signs + 1e-12;
  std::array<Signs, signs> left = products_;
  Signs right = targets_;
  for (std::size_t i = 0; i < signs; ++i) {
    left[i][i] += ridge;
    right[i] += ridge / signs;
  }
  // Gauss-Jordan; the matrix is positive definite.
  for (std::size_t i = 0; i < signs; ++i)
    for (std::size_t row = 0; row < signs; ++row) {
      if (row == i) continue;
      const double factor = left[row][i] / left[i][i];
      for (std::size_t j = i; j < signs; ++j) left[row][j] -= factor * left[i][j];
      right[row] -= factor * right[i];
    }
  for (std::size_t i = 0; i < signs; ++i) weights_[i] = right[i] / left[i][i];
}

LruPolicy::LruPolicy(std::span<const std::int32_t> experts) : first_(expert_offsets(experts)) {
  last_use_.resize(first_.back(), -1);
}

void LruPolicy::pass(int, std::int64_t) noexcept {
  ++clock_;
}

void LruPolicy::use(int layer, int expert, std::int64_t) noexcept {
  last_use_[first_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert)] = clock_;
}

double LruPolicy::worth(int layer, int expert) const noexcept {
  return static_cast<double>(last_use_[first_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert)]);
}

}  // namespace millrace
