// Random weights in each format that matrix kernels accept, with the memory behind them.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "runtime/bfloat16.h"
#include "runtime/float8.h"
#include "runtime/tensor.h"
#include "tests/support/random.h"

namespace millrace::test {

// FP8 codes (outputs, inputs) with block scales, restarting the grid every `segment_rows` outputs, `skipped` rows after
// the start of a block.
class Fp8Weight {
 public:
  Fp8Weight(Random& random, std::int64_t outputs, std::int64_t inputs, std::int64_t segment_rows = 0,
            std::int64_t skipped = 0)
      : outputs_(outputs),
        inputs_(inputs),
        segment_rows_(segment_rows == 0 ? outputs : segment_rows),
        skipped_(skipped) {
    for (std::int64_t i = 0; i < outputs * inputs; ++i) {
      const auto code = static_cast<std::uint8_t>(random.below(256));
      codes_.push_back(e4m3_is_nan(code) ? std::uint8_t{0x03} : code);
    }
    columns_ = (inputs + BlockScales::block - 1) / BlockScales::block;
    const std::int64_t grid = (skipped_ + segment_rows_ + BlockScales::block - 1) / BlockScales::block;
    for (std::int64_t i = 0; i < outputs / segment_rows_ * grid * columns_; ++i)
      scales_.push_back(random.uniform(1e-4f, 3e-4f));
  }

  std::vector<std::uint8_t>& codes() { return codes_; }
  std::vector<float>& scales() { return scales_; }
  Tensor tensor() const {
    const std::int64_t shape[] = {outputs_, inputs_};
    return Tensor(
        Dtype::f8_e4m3, shape, codes_.data(),
        {scales_.data(), columns_, segment_rows_, skipped_, small_codes_.empty() ? nullptr : small_codes_.data()});
  }
  // Gives tensors their BlockScales::small_codes, computed as that says. Codes must not change afterwards.
  void mark_small_codes() {
    small_codes_.assign(static_cast<std::size_t>(outputs_ * ((columns_ + 7) / 8)), 0);
    for (std::int64_t o = 0; o < outputs_; ++o)
      for (std::int64_t e = 0; e < inputs_; ++e)
        if (const std::int64_t b = e / BlockScales::block;
            (codes_[static_cast<std::size_t>(o * inputs_ + e)] & 0x78) == 0)
          small_codes_[static_cast<std::size_t>(o * ((columns_ + 7) / 8) + b / 8)] |=
              static_cast<std::uint8_t>(1 << b % 8);
  }
  // code * scale in fp32.
  std::vector<float> values() const {
    std::vector<float> out;
    for (std::int64_t o = 0; o < outputs_; ++o)
      for (std::int64_t e = 0; e < inputs_; ++e)
        out.push_back(e4m3_to_f32(codes_[static_cast<std::size_t>(o * inputs_ + e)]) *
                      tensor().scales().row(o)[e / BlockScales::block]);
    return out;
  }

 private:
  std::int64_t outputs_, inputs_, segment_rows_, skipped_, columns_ = 0;
  std::vector<std::uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<std::uint8_t> small_codes_;
};

// MXFP4 codes (outputs, inputs) with all exponents from `least` to `most`; inputs a multiple of 32.
class Mxfp4Weight {
 public:
  Mxfp4Weight(Random& random, std::int64_t outputs, std::int64_t inputs, int least = 115, int most = 121)
      : outputs_(outputs), inputs_(inputs) {
    for (std::int64_t i = 0; i < outputs * inputs / 2; ++i)
      codes_.push_back(static_cast<std::uint8_t>(random.below(256)));
    for (std::int64_t i = 0; i < outputs * inputs / 32; ++i)
      exponents_.push_back(static_cast<std::uint8_t>(least + static_cast<int>(random.below(most - least + 1))));
  }

  const std::vector<std::uint8_t>& codes() const { return codes_; }
  std::vector<std::uint8_t>& exponents() { return exponents_; }
  Tensor tensor() const { return Tensor::mxfp4(outputs_, inputs_, codes_.data(), exponents_.data()); }
  // By the definition of the format, in double.
  std::vector<float> values() const {
    constexpr double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    std::vector<float> out;
    for (std::size_t i = 0; i < 2 * codes_.size(); ++i) {
      const unsigned code = i % 2 == 0 ? codes_[i / 2] & 15u : codes_[i / 2] >> 4;
      const double value = std::ldexp(magnitudes[code & 7u], exponents_[i / 32] - 127);
      out.push_back(static_cast<float>(code & 8u ? -value : value));
    }
    return out;
  }

 private:
  std::int64_t outputs_, inputs_;
  std::vector<std::uint8_t> codes_, exponents_;
};

inline std::vector<Bfloat16> to_bf16(const std::vector<float>& values) {
  std::vector<Bfloat16> out;
  for (float value : values) out.push_back(bf16_from_f32(value));
  return out;
}

inline std::vector<float> rounded_to_bf16(std::vector<float> values) {
  for (float& value : values) value = round_to_bf16(value);
  return values;
}

inline Tensor matrix(Dtype dtype, const void* data, std::int64_t outputs, std::int64_t inputs) {
  const std::int64_t shape[] = {outputs, inputs};
  return Tensor(dtype, shape, data);
}

}  // namespace millrace::test
