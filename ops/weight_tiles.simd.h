// Weights expanded into tiles: a panel of up to 32 outputs, in two tiles side by side, for some blocks of inputs. It
// goes on in small steps, a block of 8 outputs each, so that a kernel can put them between its multiplications: neither
// waits for the other then. Included by kernel sources of the amx tier only.
//
// A panel is laid out as [block][accumulator][tile][output of the tile][32], accumulators being those of the packed
// order (ops/linear_kernels.h): a step of the tile order is one block and accumulator.
#pragma once

#include "ops/linear_tiles.h"
#include "ops/weight_rows.simd.h"

namespace millrace::MILLRACE_ISA {
namespace {

// Outputs [output, output + outputs) in blocks [block, block + blocks) of their inputs; without outputs, nothing.
struct Stage {
  std::int64_t output = 0, outputs = 0, block = 0, blocks = 0;
};

class WeightTiles {
 public:
  static constexpr std::int64_t tile_elements = tile_rows * 32, step_elements = 2 * tile_elements;
  static constexpr std::int64_t slice_outputs = 8;

  WeightTiles(const LinearWeight& weight, std::byte* tables) noexcept
      : weight_(weight),
        tables_(reinterpret_cast<BlockTables*>(tables)),
        next_panel_bytes_((TileScratch::panel_outputs - 1) * weight.row_bytes()) {}

  // Outputs from `output` on that a panel may hold: all have the same scales.
  std::int64_t outputs_from(std::int64_t output, std::int64_t end) const noexcept {
    const auto smaller = [](std::int64_t a, std::int64_t b) noexcept { return a < b ? a : b; };
    std::int64_t outputs = smaller(end - output, TileScratch::panel_outputs);
    if (weight_.format != LinearFormat::f8_e4m3) return outputs;
    const std::int64_t in_segment = output % weight_.segment_rows;
    outputs = smaller(outputs, weight_.segment_rows - in_segment);
    return smaller(outputs, linear_block - (weight_.skipped_rows + in_segment) % linear_block);
  }

  // Slices of a stage: what one call of expand_next() does.
  static std::int64_t slices_of(const Stage& stage) noexcept {
    return (stage.outputs + slice_outputs - 1) / slice_outputs * stage.blocks;
  }
  // Prepares for a stage, to be expanded into `panel` in `calls` calls of advance().
  void begin(const Stage& stage, std::uint16_t* panel, std::int64_t calls) noexcept {
    stage_ = stage;
    panel_ = panel;
    calls_ = calls;
    left_ = slices_ = slices_of(stage);
    due_ = row_ = at_ = 0;
    if (left_ > 0 && weight_.format == LinearFormat::f8_e4m3) choose_tables();
  }
  [[gnu::always_inline]] void advance() noexcept {
    for (due_ += slices_; due_ >= calls_; due_ -= calls_) expand_next();
  }
  void finish() noexcept {
    while (left_ > 0) expand_next();
  }

 private:
  void choose_tables() noexcept {
    const float* scales = weight_.scales_of(stage_.output);
    if (scales == scales_) return;
    scales_ = scales;
    for (std::int64_t block = 0; block < weight_.scale_columns; ++block) tables_[block].build(scales[block]);
  }

  // One copy: it is much code, and long enough that a call costs little.
  [[gnu::noinline]] void expand_next() noexcept {
    const std::int64_t left = stage_.outputs - row_, e = (stage_.block + at_) * linear_block;
    const Slice slice{
        .output = stage_.output + row_,
        .outputs = left < slice_outputs ? left : slice_outputs,
        .e = e,
        .inputs = weight_.inputs - e < linear_block ? weight_.inputs - e : linear_block,
        .target = panel_ + at_ * 4 * step_elements + row_ / tile_rows * tile_elements + row_ % tile_rows * 32};
    if (weight_.format == LinearFormat::bf16)
      expand_bf16(slice);
    else if (weight_.format == LinearFormat::mxfp4)
      expand_mxfp4(slice);
    else
      expand_fp8(slice);
    --left_;
    row_ += slice_outputs;
    if (row_ >= stage_.outputs) {
      row_ = 0;
      ++at_;
    }
  }

  // The weights of some outputs with one block of inputs, those from `e` on.
  struct Slice {
    std::int64_t output, outputs, e, inputs;
    std::uint16_t* target;
  };

  // unpack(element) gives the 64 weights from there on.
  template <class Unpack>
  [[gnu::always_inline]] static void store(std::uint16_t* target, Unpack&& unpack) noexcept {
#pragma GCC unroll 2
    for (int pair = 0; pair < 2; ++pair) {
      const Unpacked weights = unpack(pair * 64);
      _mm512_store_si512(target + 2 * pair * step_elements, weights.even);
      _mm512_store_si512(target + (2 * pair + 1) * step_elements, weights.odd);
    }
  }

  // Asks for what is expanded some blocks later, of the same output or of that of the next panel, a block of one output
  // being so many cache lines. Into the second-level cache: the outputs of a panel often lie a multiple of 4096 bytes
  // apart, where the first level holds few of them.
  template <int lines>
  [[gnu::always_inline]] void prefetch(const void* weights, std::int64_t e) const noexcept {
    constexpr std::int64_t blocks = 4;
    const bool in_row = e + blocks * linear_block < weight_.inputs;
    const char* at = static_cast<const char*>(weights) + blocks * lines * 64 + (in_row ? 0 : next_panel_bytes_);
#pragma GCC unroll 4
    for (int line = 0; line < lines; ++line) _mm_prefetch(at + line * 64, _MM_HINT_T1);
  }

  void expand_bf16(const Slice& slice) noexcept {
    const auto* weights = static_cast<const std::uint16_t*>(weight_.data) + slice.output * weight_.inputs + slice.e;
    for (std::int64_t n = 0; n < slice.outputs; ++n, weights += weight_.inputs) {
      alignas(64) std::uint16_t padded[linear_block];
      prefetch<4>(weights, slice.e);
      const std::uint16_t* from = whole(weights, slice.inputs, padded);
      store(slice.target + n * 32, [&](int at) { return unpack_bf16(from + at); });
    }
  }

  void expand_mxfp4(const Slice& slice) noexcept {
    constexpr std::int64_t scales = linear_block / mxfp4_block;
    const std::int64_t offset = slice.output * weight_.inputs + slice.e;
    const auto* pairs = static_cast<const std::uint8_t*>(weight_.data) + offset / 2;
    const std::uint8_t* exponents = weight_.exponents + offset / mxfp4_block;
    for (std::int64_t n = 0; n < slice.outputs; ++n) {
      std::uint8_t padded[linear_block / 2], padded_exponents[scales];
      prefetch<1>(pairs, slice.e);
      const std::uint8_t* from = whole(pairs, slice.inputs / 2, padded);
      const std::uint8_t* from_exponents = whole(exponents, slice.inputs / mxfp4_block, padded_exponents);
      store(slice.target + n * 32,
            [&](int at) { return unpack_mxfp4(from + at / 2, from_exponents + at / mxfp4_block); });
      pairs += weight_.inputs / 2;
      exponents += weight_.inputs / mxfp4_block;
    }
  }

  void expand_fp8(const Slice& slice) noexcept {
    const std::int64_t block = slice.e / linear_block, mark_bytes = (weight_.scale_columns + 7) / 8;
    const auto* codes = static_cast<const std::uint8_t*>(weight_.data) + slice.output * weight_.inputs + slice.e;
    const float scale = scales_[block];
    if (!BlockTables::holds(scale)) return expand_irregular_fp8(slice, codes, scale);
    const BlockTables tables = tables_[block];
    const std::uint8_t* marks =
        weight_.small_codes == nullptr ? nullptr : weight_.small_codes + slice.output * mark_bytes + block / 8;
    for (std::int64_t n = 0; n < slice.outputs; ++n, codes += weight_.inputs) {
      alignas(64) std::uint8_t padded[linear_block];
      prefetch<2>(codes, slice.e);
      const std::uint8_t* from = whole(codes, slice.inputs, padded);
      const bool no_small =
          marks != nullptr && (marks[n * mark_bytes] >> block % 8 & 1) == 0 && slice.inputs == linear_block;
      std::uint16_t* target = slice.target + n * 32;
      if (no_small) [[likely]]
        store(target, [&](int at) { return unpack_fp8<false>(from + at, tables); });
      else
        store(target, [&](int at) { return unpack_fp8<true>(from + at, tables); });
    }
  }

  // With a scale that tables cannot represent.
  void expand_irregular_fp8(const Slice& slice, const std::uint8_t* codes, float scale) noexcept {
    for (std::int64_t n = 0; n < slice.outputs; ++n, codes += weight_.inputs) {
      alignas(64) std::uint16_t weights[linear_block] = {};
      for (std::int64_t e = 0; e < slice.inputs; ++e) weights[e] = bf16_from_f32(e4m3_to_f32(codes[e]) * scale);
      store(slice.target + n * 32, [&](int at) { return unpack_bf16(weights + at); });
    }
  }

  // A block's weights, or a copy padded with zeros where `count` is less than a block has.
  template <class T, std::size_t size>
  [[gnu::always_inline]] static const T* whole(const T* from, std::int64_t count, T (&padded)[size]) noexcept {
    if (count == static_cast<std::int64_t>(size)) return from;
    std::memset(padded, 0, sizeof padded);
    std::memcpy(padded, from, static_cast<std::size_t>(count) * sizeof(T));
    return padded;
  }

  const LinearWeight& weight_;
  BlockTables* tables_;
  std::int64_t next_panel_bytes_;  // from the end of an output's row to its counterpart of the next panel
  const float* scales_ = nullptr;  // those the tables are for
  Stage stage_;
  std::uint16_t* panel_ = nullptr;
  std::int64_t calls_ = 1, slices_ = 0, left_ = 0, due_ = 0;
  std::int64_t row_ = 0, at_ = 0;  // the next slice: its first output and its block in the stage
};

}  // namespace
}  // namespace millrace::MILLRACE_ISA
