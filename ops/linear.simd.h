// The loops of linear_bf16 for one ISA tier, included by the tiers' kernel sources only. `Mul` says how weights and
// inputs are multiplied: by fp32 multiply-adds on widened halves or by vdpbf16ps; the bits are the same.
//
// A "group" is 32 positions of a packed row, the share of one accumulator in 64 elements. Mul::Element is how a group
// is held in scratch: 32 bf16, or 32 floats with the 16 odd positions first.
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
inline constexpr std::int64_t near_bytes = 2048, far_bytes = 16384;
// Always inlined: GCC 12 takes a function that only prefetches for one without effect and drops its calls.
[[gnu::always_inline]] inline void prefetch_stream(const void* at) noexcept {
  _mm_prefetch(static_cast<const char*>(at) + far_bytes, _MM_HINT_T1);
  _mm_prefetch(static_cast<const char*>(at) + near_bytes, _MM_HINT_T0);
}

// One output's weights.
struct Fp8Row {
  using Code = std::uint8_t;
  const Code* codes;
  const BlockTables* tables;  // one per block
  const std::uint8_t* small;  // BlockScales::small_codes of the row, or null
  unsigned small_marks(std::int64_t byte) const noexcept { return small == nullptr ? 0xffu : small[byte]; }
  template <bool with_small>
  Unpacked unpack(const Code* at, std::int64_t block) const noexcept {
    return unpack_fp8<with_small>(at, tables[block]);
  }
};
struct Bf16Row {
  using Code = std::uint16_t;
  const Code* codes;
  static constexpr unsigned small_marks(std::int64_t) noexcept { return 0; }
  template <bool>
  Unpacked unpack(const Code* at, std::int64_t) const noexcept {
    return unpack_bf16(at);
  }
};

// Calls step(unpacked, block, accumulator pair 0 or 1, part) for a whole row, the last block padded with zeros.
template <class Row, class Step>
[[gnu::always_inline]] inline void walk(const Row& row, std::int64_t inputs, Step&& step) noexcept {
  using Code = typename Row::Code;
  constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(Code));
  const auto one_block = [&]<bool with_small>(const Code* codes, std::int64_t block) __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (int pair = 0; pair < 2; ++pair)
#pragma GCC unroll 2
      for (int part = 0; part < parts; ++part)
        step(row.template unpack<with_small>(codes + pair * 64 + part * part_elements, block), block, pair, part);
  };
  const std::int64_t blocks = inputs / linear_block;
  const Code* codes = row.codes;
  unsigned marks = 0;
  for (std::int64_t block = 0; block < blocks; ++block, codes += linear_block, marks >>= 1) {
    if (block % 8 == 0) marks = row.small_marks(block / 8);
    for (std::int64_t i = 0; i < linear_block; i += line) prefetch_stream(codes + i);
    if ((marks & 1) != 0) [[unlikely]]
      one_block.template operator()<true>(codes, block);
    else
      one_block.template operator()<false>(codes, block);
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
};

template <class Step>
[[gnu::always_inline]] inline void walk(const Mxfp4Row& row, std::int64_t inputs, Step&& step) noexcept {
  const auto one_block = [&](const std::uint8_t* codes, const std::uint8_t* exponents, std::int64_t block)
      __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (int pair = 0; pair < 2; ++pair)
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
    prefetch_stream(codes);
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
  WeightRows(const LinearWeight& weight, std::byte* memory) noexcept
      : weight_(weight),
        tables_(reinterpret_cast<BlockTables*>(memory)),
        plain_(reinterpret_cast<std::uint16_t*>(memory + padded_inputs(weight.inputs) / linear_block *
                                                             static_cast<std::int64_t>(sizeof(BlockTables)))) {}

  // body(row), row being an Fp8Row, a Bf16Row or an Mxfp4Row.
  template <class Body>
  [[gnu::always_inline]] void visit(std::int64_t output, Body&& body) noexcept {
    const std::int64_t offset = output * weight_.inputs;
    if (weight_.format == LinearFormat::bf16)
      return body(Bf16Row{static_cast<const std::uint16_t*>(weight_.data) + offset});
    if (weight_.format == LinearFormat::mxfp4)
      return body(Mxfp4Row{static_cast<const std::uint8_t*>(weight_.data) + offset / 2,
                           weight_.exponents + offset / mxfp4_block});
    const auto* codes = static_cast<const std::uint8_t*>(weight_.data) + offset;
    choose_tables(output);
    if (regular_) return body(Fp8Row{codes, tables_, small_of(output)});
    for (std::int64_t e = 0; e < weight_.inputs; ++e)
      plain_[e] = bf16_from_f32(e4m3_to_f32(codes[e]) * scales_[e / linear_block]);
    body(Bf16Row{plain_});
  }

 private:
  const std::uint8_t* small_of(std::int64_t output) const noexcept {
    if (weight_.small_codes == nullptr) return nullptr;
    return weight_.small_codes + output * ((weight_.scale_columns + 7) / 8);
  }

  void choose_tables(std::int64_t output) noexcept {
    const float* scales = weight_.scales_of(output);
    if (scales == scales_) return;
    scales_ = scales;
    regular_ = true;
    for (std::int64_t block = 0; block < weight_.scale_columns; ++block)
      if (!tables_[block].build(scales[block])) regular_ = false;
  }

  const LinearWeight& weight_;
  BlockTables* tables_;
  std::uint16_t* plain_;
  const float* scales_ = nullptr;  // those the tables are for
  bool regular_ = true;
};

inline const std::uint16_t* packed_row(const LinearCall& call, std::int64_t row) noexcept {
  const std::int64_t source = call.x_rows != nullptr ? call.x_rows[row] : row;
  return static_cast<const std::uint16_t*>(call.x) + source * padded_inputs(call.weight.inputs);
}

// A few rows (R, all of the call): each weight is decoded into registers and meets all of them there.
template <class Mul, int R>
void multiply_rows(const LinearCall& call) noexcept {
  using Element = typename Mul::Element;
  const std::int64_t inputs = call.weight.inputs, padded = padded_inputs(inputs);
  const LinearScratch scratch(call.scratch, inputs);
  const Element* x[R];
  for (int r = 0; r < R; ++r)
    x[r] = Mul::hold(packed_row(call, r), padded, reinterpret_cast<Element*>(scratch.x) + r * padded);
  WeightRows rows(call.weight, scratch.decoding);
  for (std::int64_t o = call.begin; o < call.end; ++o)
    rows.visit(
        o, [&](const auto& row) __attribute__((always_inline)) {
          Vector acc[R][4][parts];
          for (auto& of_row : acc)
            for (auto& of_accumulator : of_row)
              for (Vector& part : of_accumulator) part = Vector{};
          const auto step = [&](const Unpacked& w, std::int64_t block, int pair, int part)
              __attribute__((always_inline)) {
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) {
              const Element* group = x[r] + block * linear_block + pair * 64;
              acc[r][2 * pair][part] = Mul::add(acc[r][2 * pair][part], w.even, group, part);
              acc[r][2 * pair + 1][part] = Mul::add(acc[r][2 * pair + 1][part], w.odd, group + 32, part);
            }
          };
          walk(row, inputs, step);
          for (int r = 0; r < R; ++r) {
            Lanes lanes[4];
            for (int a = 0; a < 4; ++a)
              for (int part = 0; part < parts; ++part) lanes[a].part[part] = acc[r][a][part];
            call.y[r * call.y_stride + o] = sum_of(lanes[0], lanes[1], lanes[2], lanes[3]);
          }
        });
}

// Many rows. Weights are expanded for Mul::outputs outputs at a time and inputs for a group of rows that stays in the
// second-level cache, both as strips: all that one accumulator sees, so that its sums stay in registers. Strips are
// laid out as [accumulator][block][output or row][32].
template <class Mul>
class Panel {
 public:
  using Element = typename Mul::Element;

  explicit Panel(const LinearCall& call) noexcept
      : call_(call),
        scratch_(call.scratch, call.weight.inputs),
        rows_(call.weight, scratch_.decoding),
        x_(reinterpret_cast<Element*>(scratch_.x)),
        w_(reinterpret_cast<Element*>(scratch_.w)),
        blocks_(padded_inputs(call.weight.inputs) / linear_block) {}

  void run() noexcept {
    const std::int64_t group = LinearScratch::group_rows(call_.weight.inputs);
    for (std::int64_t first = 0; first < call_.rows; first += group) {
      const std::int64_t rows = call_.rows - first < group ? call_.rows - first : group;
      for (std::int64_t row = 0; row < rows; ++row) spread_row(first + row, row);
      for (std::int64_t o = call_.begin; o < call_.end; o += Mul::outputs) {
        const int outputs = static_cast<int>(call_.end - o < Mul::outputs ? call_.end - o : Mul::outputs);
        for (int n = 0; n < outputs; ++n) expand(o + n, n);
        set_next(o + outputs, (blocks_ + strip_blocks - 1) / strip_blocks * 4 * ((rows + Mul::rows - 1) / Mul::rows));
        multiply(rows);
        finish(first, rows, o, outputs);
      }
    }
  }

 private:
  static constexpr int tile_sums = 4 * Mul::rows * Mul::outputs * 16;  // [accumulator][row][output][lane]
  // Blocks of a strip multiplied at a time: what of the weights stays in the first-level cache.
  static constexpr std::int64_t strip_blocks = 32;

  std::int64_t tile_elements() const noexcept { return Mul::rows * blocks_ * linear_block; }

  void spread_row(std::int64_t row, std::int64_t at) noexcept {
    const std::uint16_t* packed = packed_row(call_, row);
    Element* tile = x_ + at / Mul::rows * tile_elements() + at % Mul::rows * 32;
    for (std::int64_t block = 0; block < blocks_; ++block)
      for (int a = 0; a < 4; ++a, packed += 32) Mul::spread(packed, tile + (a * blocks_ + block) * Mul::rows * 32);
  }

  void expand(std::int64_t output, int n) noexcept {
    rows_.visit(
        output, [&](const auto& row) __attribute__((always_inline)) {
          const auto step = [&](const Unpacked& w, std::int64_t block, int pair, int part)
              __attribute__((always_inline)) {
            Element* group = w_ + ((2 * pair * blocks_ + block) * Mul::outputs + n) * 32;
            Mul::store(w.even, group, part);
            Mul::store(w.odd, group + blocks_ * Mul::outputs * 32, part);
          };
          walk(row, call_.weight.inputs, step);
        });
  }

  void multiply(std::int64_t rows) noexcept {
    for (std::int64_t begin = 0; begin < blocks_; begin += strip_blocks) {
      const std::int64_t blocks = blocks_ - begin < strip_blocks ? blocks_ - begin : strip_blocks;
      for (int a = 0; a < 4; ++a) {
        const Element* w = w_ + (a * blocks_ + begin) * Mul::outputs * 32;
        for (std::int64_t row = 0; row < rows; row += Mul::rows) {
          const std::int64_t tile = row / Mul::rows;
          const Element* x = x_ + tile * tile_elements() + (a * blocks_ + begin) * Mul::rows * 32;
          float* sums = scratch_.sums + tile * tile_sums + a * (tile_sums / 4);
          prefetch_next();
          static_assert(Mul::rows == 3);
          const std::int64_t rest = rows - row;
          if (rest >= 3)
            multiply_strip<3>(x, w, blocks, begin == 0, sums);
          else if (rest == 2)
            multiply_strip<2>(x, w, blocks, begin == 0, sums);
          else
            multiply_strip<1>(x, w, blocks, begin == 0, sums);
        }
      }
    }
  }

  template <int R>
  static void multiply_strip(const Element* x, const Element* w, std::int64_t blocks, bool from_zero,
                             float* sums) noexcept {
    constexpr int width = Lanes::part_width;
    for (int part = 0; part < parts; ++part) {
      Vector acc[R][Mul::outputs];
      for (int r = 0; r < R; ++r)
        for (int n = 0; n < Mul::outputs; ++n)
          acc[r][n] = from_zero ? Vector{} : Mul::load_sums(sums + (r * Mul::outputs + n) * 16 + part * width);
      for (std::int64_t block = 0; block < blocks; ++block)
        Mul::template add_tile<R>(acc, x + block * Mul::rows * 32, w + block * Mul::outputs * 32, part);
      for (int r = 0; r < R; ++r)
        for (int n = 0; n < Mul::outputs; ++n)
          Mul::store_sums(acc[r][n], sums + (r * Mul::outputs + n) * 16 + part * width);
    }
  }

  void finish(std::int64_t first, std::int64_t rows, std::int64_t output, int outputs) noexcept {
    static_assert(Mul::outputs == sums_at_once);
    constexpr int accumulator = tile_sums / 4;
    for (std::int64_t row = 0; row < rows; ++row) {
      const float* sums = scratch_.sums + row / Mul::rows * tile_sums + row % Mul::rows * Mul::outputs * 16;
      Lanes lanes[Mul::outputs];
      for (int n = 0; n < Mul::outputs; ++n, sums += 16)
        lanes[n] = (Lanes::load(sums) + Lanes::load(sums + accumulator)) +
                   (Lanes::load(sums + 2 * accumulator) + Lanes::load(sums + 3 * accumulator));
      store_sums(lanes, call_.y + (first + row) * call_.y_stride + output, outputs);
    }
  }

  // The next tile's weights come from memory while the present ones multiply.
  void set_next(std::int64_t output, std::int64_t strips) noexcept {
    const std::int64_t row_bytes = call_.weight.row_bytes();
    const std::int64_t outputs = call_.end - output < Mul::outputs ? call_.end - output : Mul::outputs;
    next_ = static_cast<const char*>(call_.weight.data) + output * row_bytes;
    next_end_ = next_ + outputs * row_bytes;
    next_step_ = (next_end_ - next_ + strips - 1) / strips;
  }
  void prefetch_next() noexcept {
    const char* end = next_end_ - next_ < next_step_ ? next_end_ : next_ + next_step_;
    for (; next_ < end; next_ += 64) _mm_prefetch(next_, _MM_HINT_T1);
  }

  const LinearCall& call_;
  LinearScratch scratch_;
  WeightRows rows_;
  Element* x_;
  Element* w_;
  std::int64_t blocks_;
  const char* next_ = nullptr;
  const char* next_end_ = nullptr;
  std::int64_t next_step_ = 0;  // bytes per strip
};

// Up to Mul::few_rows (at most 4) go through registers, more through panels.
template <class Mul>
void multiply(const LinearCall& call) noexcept {
  if (call.rows == 1) return multiply_rows<Mul, 1>(call);
  if constexpr (Mul::few_rows == 4) {
    if (call.rows == 2) return multiply_rows<Mul, 2>(call);
    if (call.rows == 3) return multiply_rows<Mul, 3>(call);
    if (call.rows == 4) return multiply_rows<Mul, 4>(call);
  }
  if (call.rows > 0) Panel<Mul>(call).run();
}

}  // namespace
}  // namespace millrace::MILLRACE_ISA
