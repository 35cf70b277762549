// The loops of linear_bf16 for one ISA tier, included by the tiers' kernel sources only. `Mul` says how weights and
// inputs are multiplied: by fp32 multiply-adds on widened halves or by vdpbf16ps; the bits are the same.
//
// A "group" is 32 positions of a packed row, the share of one accumulator in 64 elements. Mul::Element is how a group
// is held in scratch: 32 bf16, or 32 floats with the 16 odd positions first.
#pragma once

#include "ops/linear_kernels.h"
#include "ops/vec.h"
#include "runtime/bfloat16.h"
#include "runtime/float8.h"

namespace millrace::MILLRACE_ISA {

#if defined(__AVX512F__)
using Vector = __m512;
using Bits = __m512i;
#else
using Vector = __m256;
using Bits = __m256i;
#endif
inline constexpr int parts = Lanes::parts;                 // registers per 16 lanes
inline constexpr std::int64_t part_elements = 64 / parts;  // weights that one unpacking step takes

// Bytes ahead of the stream of weights. Chosen by measurement.
inline constexpr std::int64_t prefetch_bytes = 4096;

inline Bits load_bits(const void* source) noexcept {
#if defined(__AVX512F__)
  return _mm512_loadu_si512(source);
#else
  return _mm256_loadu_si256(static_cast<const __m256i*>(source));
#endif
}

// 64 / parts consecutive weights as bf16, in packed order: those of the even and of the odd accumulator.
struct Unpacked {
  Bits even, odd;
};

// bf16(code * scale) of the codes of one block: by low nibble for exponents above zero, where the high nibble only adds
// to the upper byte, and by the code itself for E4M3 subnormals.
struct alignas(64) BlockTables {
  std::uint8_t low[16], high[16], small_low[16], small_high[16];

  // False if bf16 cannot hold this scale times every normal code as a normal number; the tables are useless then.
  bool build(float scale) noexcept {
    for (int i = 0; i < 16; ++i) {
      const Bfloat16 normal = bf16_from_f32(normals[i] * scale), small = bf16_from_f32(subnormals[i % 8] * scale);
      low[i] = static_cast<std::uint8_t>(normal);
      high[i] = static_cast<std::uint8_t>((normal >> 8) - 1);  // these codes have 1 in the upper bits of the exponent
      small_low[i] = static_cast<std::uint8_t>(small);
      small_high[i] = static_cast<std::uint8_t>(small >> 8);
    }
    return scale >= 0x1p-110f && scale <= 0x1p110f;
  }

 private:
  static constexpr float normals[16] = {0x1.0p-5f, 0x1.2p-5f, 0x1.4p-5f, 0x1.6p-5f, 0x1.8p-5f, 0x1.ap-5f,
                                        0x1.cp-5f, 0x1.ep-5f, 0x1.0p-4f, 0x1.2p-4f, 0x1.4p-4f, 0x1.6p-4f,
                                        0x1.8p-4f, 0x1.ap-4f, 0x1.cp-4f, 0x1.ep-4f};  // codes 16 to 31
  static constexpr float subnormals[8] = {0, 0x1p-9f, 0x2p-9f, 0x3p-9f, 0x4p-9f, 0x5p-9f, 0x6p-9f, 0x7p-9f};
};

inline Unpacked unpack_fp8(const std::uint8_t* codes, const BlockTables& tables) noexcept {
  const Bits code = load_bits(codes);
#if defined(__AVX512F__)
  const auto table = [](const std::uint8_t* bytes) noexcept {
    return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
  };
  const __m512i index = _mm512_and_si512(code, _mm512_set1_epi8(0x7f));
#if defined(__GFNI__)
  // Bit 7 stays, bits 6 to 4 move to 2 to 0.
  const __m512i upper = _mm512_gf2p8affine_epi64_epi8(code, _mm512_set1_epi64(0x1020400000000080), 0);
#else
  const __m512i shifted = _mm512_and_si512(_mm512_srli_epi16(code, 4), _mm512_set1_epi8(0x07));
  const __m512i upper = _mm512_ternarylogic_epi32(_mm512_set1_epi8(-128), code, shifted, 0xca);
#endif
  __m512i low = _mm512_shuffle_epi8(table(tables.low), index);
  __m512i high = _mm512_add_epi8(upper, _mm512_shuffle_epi8(table(tables.high), index));
  const __mmask64 small = _mm512_testn_epi8_mask(code, _mm512_set1_epi8(0x78));
  if (small != 0) [[unlikely]] {
    const __m512i sign = _mm512_and_si512(code, _mm512_set1_epi8(-128));
    low = _mm512_mask_shuffle_epi8(low, small, table(tables.small_low), index);
    high = _mm512_mask_blend_epi8(small, high,
                                  _mm512_or_si512(sign, _mm512_shuffle_epi8(table(tables.small_high), index)));
  }
  return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
#else
  const auto table = [](const std::uint8_t* bytes) noexcept {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
  };
  const __m256i index = _mm256_and_si256(code, _mm256_set1_epi8(0x7f));
  const __m256i sign = _mm256_and_si256(code, _mm256_set1_epi8(-128));
  const __m256i shifted = _mm256_and_si256(_mm256_srli_epi16(code, 4), _mm256_set1_epi8(0x07));
  __m256i low = _mm256_shuffle_epi8(table(tables.low), index);
  __m256i high = _mm256_add_epi8(_mm256_or_si256(sign, shifted), _mm256_shuffle_epi8(table(tables.high), index));
  const __m256i small = _mm256_cmpeq_epi8(_mm256_and_si256(code, _mm256_set1_epi8(0x78)), _mm256_setzero_si256());
  if (!_mm256_testz_si256(small, small)) [[unlikely]] {
    low = _mm256_blendv_epi8(low, _mm256_shuffle_epi8(table(tables.small_low), index), small);
    high = _mm256_blendv_epi8(high, _mm256_or_si256(sign, _mm256_shuffle_epi8(table(tables.small_high), index)), small);
  }
  return {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
#endif
}

inline Unpacked unpack_bf16(const std::uint16_t* weights) noexcept {
  const Bits first = load_bits(weights), second = load_bits(weights + part_elements / 2);
#if defined(__AVX512F__)
  return {_mm512_shuffle_i64x2(first, second, 0x88), _mm512_shuffle_i64x2(first, second, 0xdd)};
#else
  return {_mm256_permute2x128_si256(first, second, 0x20), _mm256_permute2x128_si256(first, second, 0x31)};
#endif
}

// One output's weights.
struct Fp8Row {
  using Code = std::uint8_t;
  const Code* codes;
  const BlockTables* tables;  // one per block
  Unpacked unpack(const Code* at, std::int64_t block) const noexcept { return unpack_fp8(at, tables[block]); }
};
struct Bf16Row {
  using Code = std::uint16_t;
  const Code* codes;
  Unpacked unpack(const Code* at, std::int64_t) const noexcept { return unpack_bf16(at); }
};

// Calls step(unpacked, block, accumulator pair 0 or 1, part) for a whole row, the last block padded with zeros.
template <class Row, class Step>
[[gnu::always_inline]] inline void walk(const Row& row, std::int64_t inputs, Step&& step) noexcept {
  using Code = typename Row::Code;
  constexpr std::int64_t ahead = prefetch_bytes / static_cast<std::int64_t>(sizeof(Code));
  constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(Code));
  const auto one_block = [&](const Code* codes, std::int64_t block) __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (int pair = 0; pair < 2; ++pair)
#pragma GCC unroll 2
      for (int part = 0; part < parts; ++part)
        step(row.unpack(codes + pair * 64 + part * part_elements, block), block, pair, part);
  };
  const std::int64_t blocks = inputs / linear_block;
  const Code* codes = row.codes;
  for (std::int64_t block = 0; block < blocks; ++block, codes += linear_block) {
    for (std::int64_t i = 0; i < linear_block; i += line)
      _mm_prefetch(reinterpret_cast<const char*>(codes + ahead + i), _MM_HINT_T0);
    one_block(codes, block);
  }
  if (inputs % linear_block != 0) {
    alignas(64) Code padded[linear_block] = {};
    std::memcpy(padded, codes, static_cast<std::size_t>(inputs % linear_block) * sizeof(Code));
    one_block(padded, blocks);
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

  // body(row), row being an Fp8Row or a Bf16Row.
  template <class Body>
  [[gnu::always_inline]] void visit(std::int64_t output, Body&& body) noexcept {
    const std::int64_t offset = output * weight_.inputs;
    if (weight_.format == LinearFormat::bf16)
      return body(Bf16Row{static_cast<const std::uint16_t*>(weight_.data) + offset});
    const auto* codes = static_cast<const std::uint8_t*>(weight_.data) + offset;
    choose_tables(output);
    if (regular_) return body(Fp8Row{codes, tables_});
    for (std::int64_t e = 0; e < weight_.inputs; ++e)
      plain_[e] = bf16_from_f32(e4m3_to_f32(codes[e]) * scales_[e / linear_block]);
    body(Bf16Row{plain_});
  }

 private:
  void choose_tables(std::int64_t output) noexcept {
    const std::int64_t grid_rows = (weight_.segment_rows + linear_block - 1) / linear_block;
    const std::int64_t grid_row =
        output / weight_.segment_rows * grid_rows + output % weight_.segment_rows / linear_block;
    const float* scales = weight_.scales + grid_row * weight_.scale_columns;
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

// A few rows (R, from `first` on): each weight is decoded into registers and meets all of them there.
template <class Mul, int R>
void multiply_rows(const LinearCall& call, std::int64_t first) noexcept {
  using Element = typename Mul::Element;
  const std::int64_t inputs = call.weight.inputs, padded = padded_inputs(inputs);
  const LinearScratch scratch(call.scratch, inputs);
  const Element* x[R];
  for (int r = 0; r < R; ++r)
    x[r] = Mul::hold(packed_row(call, first + r), padded, reinterpret_cast<Element*>(scratch.x) + r * padded);
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
            call.y[(first + r) * call.y_stride + o] = sum_of(lanes[0], lanes[1], lanes[2], lanes[3]);
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
    constexpr int accumulator = tile_sums / 4;
    for (std::int64_t row = 0; row < rows; ++row) {
      const float* sums = scratch_.sums + row / Mul::rows * tile_sums + row % Mul::rows * Mul::outputs * 16;
      float* y = call_.y + (first + row) * call_.y_stride + output;
      for (int n = 0; n < outputs; ++n, sums += 16)
        y[n] = sum_of(Lanes::load(sums), Lanes::load(sums + accumulator), Lanes::load(sums + 2 * accumulator),
                      Lanes::load(sums + 3 * accumulator));
    }
  }

  const LinearCall& call_;
  LinearScratch scratch_;
  WeightRows rows_;
  Element* x_;
  Element* w_;
  std::int64_t blocks_;
};

// Rows up to Mul::few_rows go through registers, more through panels.
template <class Mul>
void multiply(const LinearCall& call) noexcept {
  if (call.rows > Mul::few_rows) return Panel<Mul>(call).run();
  for (std::int64_t row = 0; row < call.rows;) {
    const std::int64_t rest = call.rows - row;
    if (rest >= Mul::rows_at_once) {
      multiply_rows<Mul, Mul::rows_at_once>(call, row);
      row += Mul::rows_at_once;
    } else {
      multiply_rows<Mul, 1>(call, row);
      ++row;
    }
  }
}

}  // namespace millrace::MILLRACE_ISA
