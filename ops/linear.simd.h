// The loops of linear_bf16 for one ISA tier, included by the tiers' kernel sources only. `Mul` says how weights and
// inputs are multiplied: by fp32 multiply-adds on widened halves or by vdpbf16ps; the bits are the same.
//
// A "group" is 32 positions of a packed row, the share of one accumulator in 64 elements. Mul::Element is how a group
// is held in scratch: 32 bf16, or 32 floats with the 16 odd positions first.
#pragma once

#include "ops/weight_rows.simd.h"

// Of each source's own: no helper leaves its object, where another tier's might take its place.
namespace millrace::MILLRACE_ISA {
namespace {

// The sums of R rows with one output: every accumulator of each.
template <class Mul, int R>
struct RowSums {
  Vector acc[R][4][parts];

  [[gnu::always_inline]] void clear() noexcept {
    for (auto& of_row : acc)
      for (auto& of_accumulator : of_row)
        for (Vector& part : of_accumulator) part = Vector{};
  }
  // Adds `inputs` elements of a weight's row, met by those of x from `first` on.
  template <class Row>
  [[gnu::always_inline]] void add(const Row& row, std::int64_t inputs, const typename Mul::Element* const (&x)[R],
                                  std::int64_t first) noexcept {
    const auto step = [&](const Unpacked& w, std::int64_t block, int pair, int part) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const typename Mul::Element* group = x[r] + first + block * linear_block + pair * 64;
        acc[r][2 * pair][part] = Mul::add(acc[r][2 * pair][part], w.even, group, part);
        acc[r][2 * pair + 1][part] = Mul::add(acc[r][2 * pair + 1][part], w.odd, group + 32, part);
      }
    };
    walk(row, inputs, step);
  }
  // The accumulators of each row, added lane by lane, as those of the n-th output.
  [[gnu::always_inline]] void finish(Lanes (&lanes)[R][sums_at_once], int n) const noexcept {
    for (int r = 0; r < R; ++r)
      for (int part = 0; part < parts; ++part)
        lanes[r][n].part[part] = (acc[r][0][part] + acc[r][1][part]) + (acc[r][2][part] + acc[r][3][part]);
  }
};

// A few rows (R, all of the call): each weight is decoded into registers and meets all of them there. As much of the
// rows as stays in the first-level cache meets some outputs before the next part does.
template <class Mul, int R>
void multiply_rows(const LinearCall& call) noexcept {
  using Element = typename Mul::Element;
  using Sums = RowSums<Mul, R>;
  constexpr std::int64_t part_blocks = 32768 / (R * linear_block * std::int64_t{sizeof(Element)}) / 8 * 8;
  constexpr std::int64_t part_inputs = part_blocks * linear_block;
  const std::int64_t inputs = call.weight.inputs, padded = padded_inputs(inputs);
  const LinearScratch scratch(call.scratch, inputs);
  const Element* x[R];
  for (int r = 0; r < R; ++r)
    x[r] = Mul::hold(packed_row(call, r), padded, reinterpret_cast<Element*>(scratch.x) + r * padded, call.same_x);
  WeightRows rows(call, scratch.decoding);
  auto* kept = reinterpret_cast<Sums*>(scratch.sums);
  for (std::int64_t o = call.begin; o < call.end; o += sums_at_once) {
    const int outputs = static_cast<int>(call.end - o < sums_at_once ? call.end - o : sums_at_once);
    Lanes lanes[R][sums_at_once];
    if (padded <= part_inputs)  // apart, since keeping no sums is faster
      for (int n = 0; n < outputs; ++n)
        rows.visit(
            o + n, [&](const auto& row) __attribute__((always_inline)) {
              Sums sums;
              sums.clear();
              sums.add(row, inputs, x, 0);
              sums.finish(lanes, n);
            });
    else
      for (std::int64_t first = 0; first < inputs; first += part_inputs)
        for (int n = 0; n < outputs; ++n)
          rows.visit(
              o + n, [&](const auto& row) __attribute__((always_inline)) {
                Sums sums;
                first == 0 ? sums.clear() : void(sums = kept[n]);
                sums.add(row.from(first / linear_block), inputs - first < part_inputs ? inputs - first : part_inputs, x,
                         first);
                if (first + part_inputs < inputs)
                  kept[n] = sums;
                else
                  sums.finish(lanes, n);
              });
    for (int r = 0; r < R; ++r) store_sums(lanes[r], call.y + r * call.y_stride + o, outputs);
  }
}

// Many rows. Inputs are spread for a group of rows that stays in the second-level cache, weights are expanded for
// Mul::outputs outputs at a time, both as strips: all that a pair of accumulators sees, one after the other with sums
// in registers. Inputs are laid out as [accumulator][block][row][32], weights, of each of the pair, as
// [block][output][32].
template <class Mul>
class Panel {
 public:
  using Element = typename Mul::Element;

  explicit Panel(const LinearCall& call) noexcept
      : call_(call),
        scratch_(call.scratch, call.weight.inputs),
        rows_(call, scratch_.decoding),
        x_(reinterpret_cast<Element*>(scratch_.x)),
        w_(reinterpret_cast<Element*>(scratch_.w)),
        blocks_(padded_inputs(call.weight.inputs) / linear_block),
        strip_blocks_(LinearScratch::strip_inputs(call.weight.inputs) / linear_block) {}

  void run() noexcept {
    const std::int64_t group = LinearScratch::even_group_rows(call_.weight.inputs, call_.rows);
    for (std::int64_t first = 0; first < call_.rows; first += group) {
      const std::int64_t rows = call_.rows - first < group ? call_.rows - first : group;
      if (group < call_.rows || !call_.same_x)
        for (std::int64_t row = 0; row < rows; ++row) spread_row(first + row, row);
      for (std::int64_t o = call_.begin; o < call_.end; o += Mul::outputs) {
        const int outputs = static_cast<int>(call_.end - o < Mul::outputs ? call_.end - o : Mul::outputs);
        set_next(o + outputs, (blocks_ + strip_blocks_ - 1) / strip_blocks_ * 2 * ((rows + Mul::rows - 1) / Mul::rows));
        for (std::int64_t begin = 0; begin < blocks_; begin += strip_blocks_) {
          const std::int64_t end = begin + strip_blocks_ < blocks_ ? begin + strip_blocks_ : blocks_;
          const Strip strip{begin, end, end == blocks_};
          multiply_all<0>(strip, first, rows, o, outputs);
          multiply_all<1>(strip, first, rows, o, outputs);
        }
      }
    }
  }

 private:
  static constexpr int tile_sums = 4 * Mul::rows * Mul::outputs * 16;  // [accumulator][row][output][lane]

  struct Strip {
    std::int64_t begin, end;  // blocks
    bool last;
  };

  std::int64_t tile_elements() const noexcept { return Mul::rows * blocks_ * linear_block; }
  std::int64_t strip_elements() const noexcept { return strip_blocks_ * Mul::outputs * 32; }  // of an accumulator

  void spread_row(std::int64_t row, std::int64_t at) noexcept {
    const std::uint16_t* packed = packed_row(call_, row);
    Element* tile = x_ + at / Mul::rows * tile_elements() + at % Mul::rows * 32;
    for (std::int64_t block = 0; block < blocks_; ++block)
      for (int a = 0; a < 4; ++a, packed += 32) Mul::spread(packed, tile + (a * blocks_ + block) * Mul::rows * 32);
  }

  // What a pair of accumulators sees of a strip.
  template <int pair>
  void multiply_all(const Strip& strip, std::int64_t first, std::int64_t rows, std::int64_t o, int outputs) noexcept {
    for (int n = 0; n < outputs; ++n) expand<pair>(strip, o + n, w_ + n * 32);
    const Element* x = x_ + (2 * pair * blocks_ + strip.begin) * Mul::rows * 32;
    float* sums = scratch_.sums;
    for (std::int64_t row = 0; row < rows; row += Mul::rows, x += tile_elements(), sums += tile_sums) {
      multiply_tile<pair>(strip, x, rows - row, sums);
      if (pair == 1 && strip.last)
        finish(sums, first + row, rows - row < Mul::rows ? rows - row : Mul::rows, o, outputs);
    }
  }

  // Decodes one pair of accumulators' weights, so that what is written stays in the first-level cache.
  template <int pair>
  void expand(const Strip& strip, std::int64_t output, Element* target) noexcept {
    rows_.visit(
        output, [&](const auto& row) __attribute__((always_inline)) {
          const auto step = [&](const Unpacked& w, std::int64_t block, int, int part) __attribute__((always_inline)) {
            Mul::store(w.even, target + block * Mul::outputs * 32, part);
            Mul::store(w.odd, target + strip_elements() + block * Mul::outputs * 32, part);
          };
          const std::int64_t at = strip.begin * linear_block, end = strip.end * linear_block;
          walk<pair, pair + 1>(row.from(strip.begin), (end < call_.weight.inputs ? end : call_.weight.inputs) - at,
                               step);
        });
  }

  template <int pair>
  void multiply_tile(const Strip& strip, const Element* x, std::int64_t rows, float* sums) noexcept {
    prefetch_next();
    static_assert(Mul::rows == 3);
    if (rows >= 3)
      multiply_strip<3, pair>(strip, x, sums);
    else if (rows == 2)
      multiply_strip<2, pair>(strip, x, sums);
    else
      multiply_strip<1, pair>(strip, x, sums);
  }

  // Apart for the first strip: GCC 12 would keep sums that may be zero or loaded on the stack.
  template <int R, int pair>
  void multiply_strip(const Strip& strip, const Element* x, float* sums) noexcept {
    strip.begin == 0 ? multiply_strip<R, pair, true>(strip, x, sums) : multiply_strip<R, pair, false>(strip, x, sums);
  }

  // Leaves the sums of each accumulator in its place. Where they are complete, those of a pair are added while they are
  // at hand, and all of them end in the place of accumulator 0.
  template <int R, int pair, bool first>
  void multiply_strip(const Strip& strip, const Element* x, float* sums) noexcept {
    constexpr int width = Lanes::part_width, quarter = tile_sums / 4;
    const std::int64_t blocks = strip.end - strip.begin;
    for (int part = 0; part < parts; ++part) {
      alignas(64) float even[R][Mul::outputs][width];
      const auto at = [&](int accumulator, int r, int n) __attribute__((always_inline)) {
        return sums + accumulator * quarter + (r * Mul::outputs + n) * 16 + part * width;
      };
      const auto multiply = [&]<int odd>(auto&& keep) __attribute__((always_inline)) {
        Vector acc[R][Mul::outputs];
#pragma GCC unroll 3
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
          for (int n = 0; n < Mul::outputs; ++n)
            acc[r][n] = first ? Vector{} : Mul::load_sums(at(2 * pair + odd, r, n));
        const Element* inputs = x + odd * blocks_ * Mul::rows * 32;
        const Element* weights = w_ + odd * strip_elements();
        for (std::int64_t block = 0; block < blocks; ++block, inputs += Mul::rows * 32, weights += Mul::outputs * 32)
          Mul::template add_tile<R>(acc, inputs, weights, part);
#pragma GCC unroll 3
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
          for (int n = 0; n < Mul::outputs; ++n) keep(acc[r][n], r, n);
      };
      if (!strip.last) {  // apart: one loop with a choice of targets is a tenth slower
        multiply.template operator()<0>([&](Vector sum, int r, int n) __attribute__((always_inline)) {
          Mul::store_sums(sum, at(2 * pair, r, n));
        });
        multiply.template operator()<1>([&](Vector sum, int r, int n) __attribute__((always_inline)) {
          Mul::store_sums(sum, at(2 * pair + 1, r, n));
        });
        continue;
      }
      multiply.template operator()<0>([&](Vector sum, int r, int n)
                                          __attribute__((always_inline)) { Mul::store_sums(sum, even[r][n]); });
      multiply.template operator()<1>([&](Vector sum, int r, int n) __attribute__((always_inline)) {
        sum = Mul::load_sums(even[r][n]) + sum;
        if (pair == 1) sum = Mul::load_sums(at(0, r, n)) + sum;
        Mul::store_sums(sum, at(0, r, n));
      });
    }
  }

  // The outputs of some rows, whose sums are complete.
  void finish(const float* sums, std::int64_t row, std::int64_t rows, std::int64_t output, int outputs) noexcept {
    static_assert(Mul::outputs == sums_at_once);
    float* y = call_.y + row * call_.y_stride + output;
    for (std::int64_t r = 0; r < rows; ++r, y += call_.y_stride) {
      Lanes lanes[Mul::outputs];
      for (int n = 0; n < Mul::outputs; ++n, sums += 16) lanes[n] = Lanes::load(sums);
      store_sums(lanes, y, outputs);
    }
  }

  // The next tile's weights, which may be those of the next call, come from memory while the present ones multiply.
  void set_next(std::int64_t output, std::int64_t strips) noexcept {
    const std::int64_t row_bytes = call_.weight.row_bytes();
    const std::int64_t rest = call_.weight.outputs - output, outputs = rest < Mul::outputs ? rest : Mul::outputs;
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
  std::int64_t blocks_, strip_blocks_;
  const char* next_ = nullptr;
  const char* next_end_ = nullptr;
  std::int64_t next_step_ = 0;  // bytes per strip
};

// At most 4 rows, all that a call has.
template <class Mul>
void multiply_few(const LinearCall& call) noexcept {
  if (call.rows == 1) return multiply_rows<Mul, 1>(call);
  if constexpr (Mul::few_rows == 4) {
    if (call.rows == 2) return multiply_rows<Mul, 2>(call);
    if (call.rows == 3) return multiply_rows<Mul, 3>(call);
    if (call.rows == 4) return multiply_rows<Mul, 4>(call);
  }
}

// A few rows at a time go through registers, so few that decoding weights again for each handful, from the
// second-level cache, is less work than expanding them. More rows go through panels.
template <class Mul>
void multiply(const LinearCall& call) noexcept {
  constexpr std::int64_t outputs_at_once = 32;
  if (call.rows > 3 * Mul::few_rows) return Panel<Mul>(call).run();
  const std::int64_t passes = (call.rows + Mul::few_rows - 1) / Mul::few_rows;
  if (passes <= 1) return multiply_few<Mul>(call);
  const std::int64_t at_once = (call.rows + passes - 1) / passes;
  for (std::int64_t o = call.begin; o < call.end; o += outputs_at_once)
    for (std::int64_t row = 0; row < call.rows; row += at_once) {
      LinearCall part = call;
      part.begin = o;
      part.end = call.end - o < outputs_at_once ? call.end : o + outputs_at_once;
      part.rows = call.rows - row < at_once ? call.rows - row : at_once;
      part.same_x = false;
      part.y = call.y + row * call.y_stride;
      if (call.x_rows != nullptr)
        part.x_rows = call.x_rows + row;
      else
        part.x = static_cast<const std::uint16_t*>(call.x) + row * padded_inputs(call.weight.inputs);
      multiply_few<Mul>(part);
    }
}

}  // namespace
}  // namespace millrace::MILLRACE_ISA
