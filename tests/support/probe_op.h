// An operator that calls a function of the test.
#pragma once

#include <functional>
#include <utility>

#include "runtime/op.h"

namespace millrace::test {

class ProbeOp final : public Op {
 public:
  explicit ProbeOp(std::function<void(const StepContext&)> body = {}, std::size_t scratch = 0)
      : body_(std::move(body)), scratch_(scratch) {}

  std::string_view kind() const noexcept override { return "probe"; }
  void run(const StepContext& context) const override {
    if (body_) body_(context);
  }
  std::size_t scratch_bytes(std::int64_t, int) const override { return scratch_; }
  Cost cost(const StepContext&) const override { return {}; }

 private:
  std::function<void(const StepContext&)> body_;
  std::size_t scratch_;
};

}  // namespace millrace::test
