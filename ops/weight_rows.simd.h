// The weights of linear_bf16 output by output, decoded group by group, and packed rows of inputs. Included by kernel
// sources only.
#pragma once

#include "ops/linear_kernels.h"
#include "ops/mxfp4.simd.h"
#include "ops/unpack.simd.h"
#include "ops/vec.h"
#include "runtime/bfloat16.h"
#include "runtime/float8.h"

// Of each source's own: no helper leaves its object, where another tier's might take its place.
namespace millrace::MILLRACE_ISA {
namespace {

// Asks for the line of the weight stream that is far ahead to come to the second-level cache, and for the one that is
// near to come to the first: the processor's own prefetcher stops at every page. Distances chosen by measurement.
struct Ahead {
  std::int64_t far = 16384, near = 2048;  // bytes

  // Always inlined: GCC 12 takes a function that only prefetches for one without effect and drops its calls.
  [[gnu::always_inline]] void prefetch(const void* at) const noexcept {
    _mm_prefetch(static_cast<const char*>(at) + far, _MM_HINT_T1);
    _mm_prefetch(static_cast<const char*>(at) + near, _MM_HINT_T0);
  }
};

// One output's weights.
struct Fp8Row {
  using Code = std::uint8_t;
  const Code* codes;
  const BlockTables* tables;  // one per block
  const std::uint8_t* small;  // BlockScales::small_codes of the row, or null
  Ahead ahead;
  unsigned small_marks(std::int64_t byte) const noexcept { return small == nullptr ? 0xffu : small[byte]; }
  // The row from a block on, a multiple of 8.
  Fp8Row from(std::int64_t block) const noexcept {
    return {codes + block * linear_block, tables + block, small == nullptr ? small : small + block / 8, ahead};
  }
  template <bool with_small>
  Unpacked unpack(const Code* at, std::int64_t block) const noexcept {
    return unpack_fp8<with_small>(at, tables[block]);
  }
};
struct Bf16Row {
  using Code = std::uint16_t;
  const Code* codes;
  Ahead ahead;
  static constexpr unsigned small_marks(std::int64_t) noexcept { return 0; }
  Bf16Row from(std::int64_t block) const noexcept { return {codes + block * linear_block, ahead}; }
  template <bool>
  Unpacked unpack(const Code* at, std::int64_t) const noexcept {
    return unpack_bf16(at);
  }
};

// Calls step(unpacked, block, accumulator pair, part) for a whole row, the last block padded with zeros: for both pairs
// 0 and 1, prefetching what follows, or for one of them.
template <int first_pair = 0, int pairs_end = 2, class Row, class Step>
[[gnu::always_inline]] inline void walk(const Row& row, std::int64_t inputs, Step&& step) noexcept {
  using Code = typename Row::Code;
  constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(Code));
  const auto one_block = [&]<bool with_small>(const Code* codes, std::int64_t block) __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (int pair = first_pair; pair < pairs_end; ++pair)
#pragma GCC unroll 2
      for (int part = 0; part < parts; ++part)
        step(row.template unpack<with_small>(codes + pair * 64 + part * part_elements, block), block, pair, part);
  };
  const std::int64_t blocks = inputs / linear_block;
  const Code* codes = row.codes;
  const auto prefetch = [ahead = row.ahead](const Code* at) __attribute__((always_inline)) {
    if constexpr (pairs_end - first_pair == 2)
      for (std::int64_t i = 0; i < linear_block; i += line) ahead.prefetch(at + i);
  };
  for (std::int64_t first = 0; first < blocks; first += 8) {
    const std::int64_t end = first + 8 < blocks ? first + 8 : blocks;
    unsigned marks = row.small_marks(first / 8);
    if (marks == 0) [[likely]] {  // a loop of its own: one test less for each block
      for (std::int64_t block = first; block < end; ++block, codes += linear_block) {
        prefetch(codes);
        one_block.template operator()<false>(codes, block);
      }
      continue;
    }
    for (std::int64_t block = first; block < end; ++block, codes += linear_block, marks >>= 1) {
      prefetch(codes);
      if ((marks & 1) != 0)
        one_block.template operator()<true>(codes, block);
      else
        one_block.template operator()<false>(codes, block);
    }
  }
  if (inputs % linear_block != 0) {
    alignas(64) Code padded[linear_block] = {};
    std::memcpy(padded, codes, static_cast<std::size_t>(inputs % linear_block) * sizeof(Code));
    one_block.template operator()<true>(padded, blocks);
  }
}

struct Mxfp4Row {
  const std::uint8_t* codes;  // (inputs / 2)
  const std::uint8_t* exponents;
  Ahead ahead;
  Mxfp4Row from(std::int64_t block) const noexcept {
    return {codes + block * linear_block / 2, exponents + block * (linear_block / mxfp4_block), ahead};
  }
};

template <int first_pair = 0, int pairs_end = 2, class Step>
[[gnu::always_inline]] inline void walk(const Mxfp4Row& row, std::int64_t inputs, Step&& step) noexcept {
  const auto one_block = [&](const std::uint8_t* codes, const std::uint8_t* exponents, std::int64_t block)
      __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (int pair = first_pair; pair < pairs_end; ++pair)
#pragma GCC unroll 2
      for (int part = 0; part < parts; ++part) {
        const std::int64_t at = pair * 64 + part * part_elements;
        step(unpack_mxfp4(codes + at / 2, exponents + at / mxfp4_block), block, pair, part);
      }
  };
  constexpr std::int64_t pairs = linear_block / 2, scales = linear_block / mxfp4_block;
  const std::int64_t blocks = inputs / linear_block, rest = inputs % linear_block;
  const std::uint8_t* codes = row.codes;
  for (std::int64_t block = 0; block < blocks; ++block, codes += pairs) {
    if constexpr (pairs_end - first_pair == 2) row.ahead.prefetch(codes);
    one_block(codes, row.exponents + block * scales, block);
  }
  if (rest != 0) {
    std::uint8_t padded[pairs] = {}, exponents[scales] = {};
    std::memcpy(padded, codes, static_cast<std::size_t>(rest) / 2);
    std::memcpy(exponents, row.exponents + blocks * scales, static_cast<std::size_t>(rest / mxfp4_block));
    one_block(padded, exponents, blocks);
  }
}

inline float sum_of(const Lanes& a0, const Lanes& a1, const Lanes& a2, const Lanes& a3) noexcept {
  return ((a0 + a1) + (a2 + a3)).sum();
}

// The outputs of a call, one after the other, with what their decoding needs.
class WeightRows {
 public:
  WeightRows(const LinearCall& call, std::byte* memory) noexcept
      : weight_(call.weight),
        tables_(reinterpret_cast<BlockTables*>(memory)),
        plain_(reinterpret_cast<std::uint16_t*>(memory + padded_inputs(weight_.inputs) / linear_block *
                                                             static_cast<std::int64_t>(sizeof(BlockTables)))),
        end_(weight_.row(call.end)),
        to_next_(call.next != nullptr ? static_cast<const std::byte*>(call.next) - end_ : 0) {}

  // body(row), row being an Fp8Row, a Bf16Row or an Mxfp4Row.
  template <class Body>
  [[gnu::always_inline]] void visit(std::int64_t output, Body&& body) noexcept {
    const std::int64_t offset = output * weight_.inputs;
    if (weight_.format == LinearFormat::bf16)
      return body(Bf16Row{static_cast<const std::uint16_t*>(weight_.data) + offset, ahead_of(output)});
    if (weight_.format == LinearFormat::mxfp4)
      return body(Mxfp4Row{static_cast<const std::uint8_t*>(weight_.data) + offset / 2,
                           weight_.exponents + offset / mxfp4_block, ahead_of(output)});
    const auto* codes = static_cast<const std::uint8_t*>(weight_.data) + offset;
    choose_tables(output);
    if (regular_) return body(Fp8Row{codes, tables_, small_of(output), ahead_of(output)});
    for (std::int64_t e = 0; e < weight_.inputs; ++e)
      plain_[e] = bf16_from_f32(e4m3_to_f32(codes[e]) * scales_[e / linear_block]);
    body(Bf16Row{plain_, {}});
  }

 private:
  const std::uint8_t* small_of(std::int64_t output) const noexcept {
    if (weight_.small_codes == nullptr) return nullptr;
    const std::uint8_t* small = weight_.small_codes + output * ((weight_.scale_columns + 7) / 8);
    _mm_prefetch(reinterpret_cast<const char*>(small) + 128, _MM_HINT_T0);
    return small;
  }

  // Beyond the end of the call lies what comes next.
  Ahead ahead_of(std::int64_t output) const noexcept {
    const std::int64_t left = end_ - weight_.row(output);
    Ahead ahead;
    if (left <= ahead.far) ahead.far += to_next_;
    if (left <= ahead.near) ahead.near += to_next_;
    return ahead;
  }

  void choose_tables(std::int64_t output) noexcept {
    if (output >= tables_begin_ && output < tables_end_) return;
    scales_ = weight_.scales_of(output);
    tables_begin_ = output;
    tables_end_ = weight_.scales_end(output);
    regular_ = true;
    for (std::int64_t block = 0; block < weight_.scale_columns; ++block)
      if (!tables_[block].build(scales_[block])) regular_ = false;
  }

  const LinearWeight& weight_;
  BlockTables* tables_;
  std::uint16_t* plain_;
  const float* scales_ = nullptr;                   // those the tables are for
  std::int64_t tables_begin_ = 0, tables_end_ = 0;  // outputs that have these scales
  bool regular_ = true;
  const std::byte* end_;  // of the call's weights
  std::int64_t to_next_;
};

inline const std::uint16_t* packed_row(const LinearCall& call, std::int64_t row) noexcept {
  const std::int64_t source = call.x_rows != nullptr ? call.x_rows[row] : row;
  return static_cast<const std::uint16_t*>(call.x) + source * padded_inputs(call.weight.inputs);
}

}  // namespace
}  // namespace millrace::MILLRACE_ISA
