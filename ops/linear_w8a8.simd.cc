#include "ops/linear_w8a8.h"

#include "ops/unpack.simd.h"
#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {
namespace {

using Signed = xsimd::batch<std::int32_t>;

// The greatest magnitude of a group as bits, which order like the numbers and keep a NaN.
std::int32_t largest_bits(const Lanes (&group)[8]) noexcept {
  std::int32_t best = 0;
  for (int part = 0; part < parts; ++part) {
    Signed largest(0);
    for (const Lanes& lanes : group)
      largest = xsimd::max(largest, xsimd::bitwise_cast<Signed>(lanes.part[part]) & Signed(0x7fffffff));
    alignas(64) std::int32_t lane[Lanes::part_width];
    largest.store_unaligned(lane);
    for (std::int32_t bits : lane) best = bits > best ? bits : best;
  }
  return best;
}

// False for a group that is not finite, whose scale is NaN.
bool group_scale(const Lanes (&group)[8], ActivationScale form, float& scale) noexcept {
  const std::int32_t bits = largest_bits(group);
  const bool finite = bits < 0x7f800000;
  const float largest = __builtin_bit_cast(float, bits);
  scale = finite ? (largest > 1e-10f ? largest : 1e-10f) / 448.0f : __builtin_nanf("");
  if (finite && form == ActivationScale::power_of_two)
    scale = __builtin_bit_cast(float, (__builtin_bit_cast(std::uint32_t, scale) + 0x7fffffu) & 0xff800000u);
  return finite;
}

// round_to_e4m3 of finite numbers.
Lanes round_e4m3(const Lanes& a) noexcept {
  const Lanes clamped = min(Lanes::broadcast(448.0f), max(Lanes::broadcast(-448.0f), a));
  const Lanes shift = Lanes::broadcast(0x1p14f);
  Lanes r = clamped;
  for (int part = 0; part < parts; ++part) {
    using Unsigned = xsimd::batch<std::uint32_t>;
    const Unsigned bits = xsimd::bitwise_cast<Unsigned>(clamped.part[part]);
    const Unsigned sign = bits & Unsigned(0x80000000u), magnitude = bits & Unsigned(0x7fffffffu);
    const Unsigned normal = (magnitude + Unsigned(0x7ffffu) + ((magnitude >> 20) & Unsigned(1u))) & Unsigned(~0xfffffu);
    const Lanes::Part absolute = xsimd::bitwise_cast<Lanes::Part>(magnitude);
    const Lanes::Part rounded =
        xsimd::select(absolute < Lanes::Part(0x1p-6f), (absolute + shift.part[part]) - shift.part[part],
                      xsimd::bitwise_cast<Lanes::Part>(normal));
    r.part[part] = xsimd::bitwise_cast<Lanes::Part>(xsimd::bitwise_cast<Unsigned>(rounded) | sign);
  }
  return r;
}

// Upper halves: exact for E4M3 values.
void store_bf16(const Lanes& values, std::uint16_t* target) noexcept {
  alignas(64) std::uint32_t bits[Lanes::width];
  values.store(reinterpret_cast<float*>(bits));
  for (int i = 0; i < Lanes::width; ++i) target[i] = static_cast<std::uint16_t>(bits[i] >> 16);
}

constexpr int tile_outputs = Lanes::width;
constexpr std::int64_t group_rows = 64;  // rows that a decoded tile of weights serves

// Outputs [first, first + outputs) of the weight, one block of inputs at a time.
struct Tile {
  alignas(64) float codes[tile_outputs * linear_block] = {};
  alignas(64) float scales[tile_outputs] = {};

  void decode(const LinearWeight& weight, std::int64_t first, int outputs, std::int64_t block) noexcept {
    const std::int64_t begin = block * linear_block, rest = weight.inputs - begin;
    for (int n = 0; n < outputs; ++n) {
      const auto* row = static_cast<const std::uint8_t*>(weight.data) + (first + n) * weight.inputs + begin;
      alignas(64) std::uint8_t padded[linear_block] = {};
      if (rest < linear_block) {
        std::memcpy(padded, row, static_cast<std::size_t>(rest));
        row = padded;
      }
      for (std::int64_t e = 0; e < linear_block; e += 16) decode_fp8(row + e).store(codes + n * linear_block + e);
      scales[n] = weight.scales_of(first + n)[block];
    }
  }

  // The sums of one row's block with each output.
  Lanes multiply(const std::uint16_t* x) const noexcept {
    alignas(64) float sums[tile_outputs];
    for (int first = 0; first < tile_outputs; first += sums_at_once) {
      const float* w = codes + first * linear_block;
      Lanes acc[sums_at_once];
      for (Lanes& lanes : acc) lanes = Lanes::zero();
      for (std::int64_t e = 0; e < linear_block; e += Lanes::width) {
        const Lanes values = Lanes::load_bf16(x + e);
#pragma GCC unroll 8
        for (int n = 0; n < sums_at_once; ++n) acc[n] = fma(values, Lanes::load(w + n * linear_block + e), acc[n]);
      }
      store_sums(acc, sums + first, sums_at_once);
    }
    return Lanes::load(sums);
  }
};

}  // namespace

void quantize_rows(const float* x, std::int64_t rows, std::int64_t inputs, ActivationScale form,
                   QuantizedGroup* groups) noexcept {
  for (std::int64_t row = 0; row < rows; ++row, x += inputs)
    for (std::int64_t begin = 0; begin < inputs; begin += linear_block, ++groups) {
      Lanes group[8];
      for (int i = 0; i < 8; ++i) {
        const std::int64_t at = begin + i * Lanes::width;
        group[i] = at < inputs ? Lanes::load_first(x + at, inputs - at) : Lanes::zero();
      }
      const bool finite = group_scale(group, form, groups->scale);
      for (int i = 0; i < 8; ++i)
        store_bf16(finite ? round_e4m3(group[i] / Lanes::broadcast(groups->scale)) : Lanes::zero(),
                   groups->values + i * Lanes::width);
    }
}

void linear_w8a8(const LinearCall& call) noexcept {
  const std::int64_t groups = quantized_groups(call.weight.inputs);
  Tile tile;
  alignas(64) float sums[group_rows * tile_outputs];
  for (std::int64_t o = call.begin; o < call.end; o += tile_outputs) {
    const int outputs = static_cast<int>(call.end - o < tile_outputs ? call.end - o : tile_outputs);
    for (std::int64_t first = 0; first < call.rows; first += group_rows) {
      const std::int64_t rows = call.rows - first < group_rows ? call.rows - first : group_rows;
      std::memset(sums, 0, static_cast<std::size_t>(rows * tile_outputs) * sizeof(float));
      for (std::int64_t g = 0; g < groups; ++g) {
        tile.decode(call.weight, o, outputs, g);
        const Lanes weight_scales = Lanes::load(tile.scales);
        for (std::int64_t row = 0; row < rows; ++row) {
          const std::int64_t source = call.x_rows != nullptr ? call.x_rows[first + row] : first + row;
          const QuantizedGroup& x = static_cast<const QuantizedGroup*>(call.x)[source * groups + g];
          float* sum = sums + row * tile_outputs;
          (Lanes::load(sum) + tile.multiply(x.values) * Lanes::broadcast(x.scale) * weight_scales).store(sum);
        }
      }
      for (std::int64_t row = 0; row < rows; ++row)
        Lanes::load(sums + row * tile_outputs).store_first(call.y + (first + row) * call.y_stride + o, outputs);
    }
  }
}

}  // namespace millrace::MILLRACE_ISA
