#include "loader/load_linear.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <type_traits>
#include <vector>

#include "loader/convert.h"
#include "loader/mxfp4_blocks.h"
#include "ops/fp8_marks.h"
#include "runtime/error.h"
#include "runtime/parallel.h"

namespace millrace {
namespace {

// What a weight becomes in memory.
enum class Form { as_stored, dequantized, to_bf16, to_f32 };

Form form_of(const StoredLinear& stored, const WeightOptions& options) noexcept {
  const Dtype dtype = stored.weight.entry->dtype;
  const bool f32 = keeps_f32(options.numerics);
  if (stored.pitch > 0) return f32 ? Form::to_f32 : Form::to_bf16;
  const bool keeps_codes = f32 || quantizes_inputs(options.numerics) || options.format == WeightFormat::fp8;
  if (stored.scale) return keeps_codes ? Form::as_stored : Form::dequantized;
  if (dtype == Dtype::bf16 || (dtype == Dtype::f32 && f32)) return Form::as_stored;
  return f32 ? Form::to_f32 : Form::to_bf16;
}

std::int64_t loaded_row_bytes(const StoredLinear& stored, Form form) noexcept {
  if (form == Form::as_stored) return stored.row_bytes();
  return stored.in * size_of(form == Form::to_f32 ? Dtype::f32 : Dtype::bf16);
}

// body(begin, end) over all rows, on all threads if there are some.
template <class Body>
void for_rows(const Parallel* parallel, std::int64_t rows, Body&& body) {
  if (parallel)
    parallel->for_range(rows, 1, [&](std::int64_t begin, std::int64_t end, int) { body(begin, end); });
  else
    body(std::int64_t{0}, rows);
}

// Where the data of a run begin in the tensor.
std::uint64_t run_begin(const StoredLinear& stored, std::int64_t run) noexcept {
  return static_cast<std::uint64_t>((stored.rows.first + run * stored.rows.stride) * stored.row_bytes());
}

std::uint64_t run_bytes(const StoredLinear& stored) noexcept {
  return static_cast<std::uint64_t>(stored.rows.rows * stored.row_bytes());
}

// Bytes of LoadedLinear::memory and ::scales.
std::uint64_t memory_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept {
  const Form form = form_of(stored, options);
  const std::int64_t row_bytes = stored.row_bytes();
  const std::uint64_t offset = stored.weight.entry->offset + static_cast<std::uint64_t>(stored.rows.first * row_bytes);
  const bool aligned = offset % static_cast<std::uint64_t>(size_of(stored.weight.entry->dtype)) == 0;
  if (form == Form::as_stored && aligned && stored.rows.runs == 1 && !options.resident) return 0;
  return static_cast<std::uint64_t>(stored.out * loaded_row_bytes(stored, form));
}

// One of the matrices of a transposed tensor.
std::uint64_t matrix_bytes(const StoredLinear& stored) noexcept {
  return static_cast<std::uint64_t>(stored.in * stored.pitch * size_of(stored.weight.entry->dtype));
}

// Of the marks of small codes, which lie behind the scales.
std::uint64_t mark_bytes(const StoredLinear& stored) noexcept {
  return static_cast<std::uint64_t>(stored.out * ((stored.grid.columns + 7) / 8));
}

void read_exponents(const StoredLinear& stored, const ByteSource& source, std::span<std::byte> memory) {
  source.copy(stored.scale, 0, memory);
  const auto* exponents = reinterpret_cast<const std::uint8_t*>(memory.data());
  const std::int64_t bad = find_bad_exponent({exponents, memory.size()}), columns = stored.in / mxfp4_block;
  if (bad >= 0)
    fail(Errc::bad_file, "{}: the exponent at row {}, column {} is {}; 252 is the largest that keeps MXFP4 finite",
         title_of(stored.scale), bad / columns, bad % columns, exponents[bad]);
}

// The scales of one segment.
TensorRange scale_range(const StoredLinear& stored, std::int64_t segment) noexcept {
  const ScaleGrid& grid = stored.grid;
  const std::int64_t row_bytes = grid.columns * size_of(stored.scale.entry->dtype);
  return {stored.scale, static_cast<std::uint64_t>((grid.first_row + segment * grid.stride) * row_bytes),
          static_cast<std::uint64_t>(grid.rows_per_segment() * row_bytes)};
}

void read_scales(const StoredLinear& stored, const ByteSource& source, std::span<std::byte> memory) {
  const ScaleGrid& grid = stored.grid;
  const std::int64_t per_segment = grid.rows_per_segment();
  auto* scales = reinterpret_cast<float*>(memory.data());
  for (std::int64_t segment = 0; segment < grid.segments; ++segment, scales += per_segment * grid.columns) {
    const TensorRange range = scale_range(stored, segment);
    const std::int64_t bad =
        convert_scales(stored.scale.entry->dtype, source.view(stored.scale, range.begin, range.count), scales);
    if (bad >= 0)
      fail(Errc::bad_file, "{}: the scale at row {}, column {} is {}", title_of(stored.scale),
           grid.first_row + segment * grid.stride + bad / grid.columns, bad % grid.columns, scales[bad]);
  }
}

// Whether the scales of an FP8 weight, which were read, say nothing.
bool has_unit_scales(const StoredLinear& stored, const std::byte* scales) noexcept {
  if (!stored.scale || stored.is_mxfp4()) return false;
  const auto* values = reinterpret_cast<const float*>(scales);
  const std::int64_t count = stored.grid.segments * stored.grid.rows_per_segment() * stored.grid.columns;
  return std::all_of(values, values + count, [](float scale) { return scale == 1.0f; });
}

BlockScales block_scales(const StoredLinear& stored, const void* data) noexcept {
  return {.data = static_cast<const float*>(data),
          .columns = stored.grid.columns,
          .segment_rows = stored.out / stored.grid.segments,
          .skipped_rows = stored.grid.skipped_rows};
}

void check_codes(const StoredLinear& stored, std::int64_t run, std::span<const std::byte> data) {
  if (stored.weight.entry->dtype != Dtype::f8_e4m3) return;
  const std::int64_t at = find_nan_code({reinterpret_cast<const std::uint8_t*>(data.data()), data.size()});
  if (at >= 0)
    fail(Errc::bad_file, "{}: NaN code at row {}, column {}", title_of(stored.weight),
         stored.rows.first + run * stored.rows.stride + at / stored.in, at % stored.in);
}

// Rows [begin, end) of a run, whose data and whose place in memory are given, `scales` being those of the weight.
void convert_rows(const StoredLinear& stored, Form form, const std::byte* scales, std::int64_t run, std::int64_t begin,
                  std::int64_t end, const std::byte* data, std::byte* memory) {
  const std::int64_t in = stored.in, count = (end - begin) * in;
  const Dtype dtype = stored.weight.entry->dtype;
  const std::byte* rows = data + begin * stored.row_bytes();
  std::byte* out = memory + begin * loaded_row_bytes(stored, form);
  if (form == Form::to_bf16) return convert_to_bf16(dtype, rows, count, reinterpret_cast<Bfloat16*>(out));
  if (form == Form::to_f32) return convert_to_f32(dtype, rows, count, reinterpret_cast<float*>(out));
  if (stored.is_mxfp4())
    return dequantize_mxfp4(reinterpret_cast<const std::uint8_t*>(rows),
                            reinterpret_cast<const std::uint8_t*>(scales) + begin * in / mxfp4_block, end - begin, in,
                            reinterpret_cast<Bfloat16*>(out));
  BlockScales of_run = block_scales(stored, scales);
  if (stored.rows.runs > 1) of_run.data += run * stored.grid.rows_per_segment() * stored.grid.columns;
  dequantize_rows(reinterpret_cast<const std::uint8_t*>(data), in, of_run, begin, end,
                  reinterpret_cast<Bfloat16*>(memory));
}

// Brings all runs into `memory`.
void load_runs(const StoredLinear& stored, Form form, const ByteSource& source, const std::byte* scales,
               const Parallel* parallel, std::span<std::byte> memory) {
  const std::size_t loaded_bytes = memory.size() / static_cast<std::size_t>(stored.rows.runs);
  for (std::int64_t run = 0; run < stored.rows.runs; ++run) {
    const std::span<std::byte> target = memory.subspan(static_cast<std::size_t>(run) * loaded_bytes, loaded_bytes);
    if (form == Form::as_stored) {
      source.copy(stored.weight, run_begin(stored, run), target);
      continue;
    }
    const std::span<const std::byte> data = source.view(stored.weight, run_begin(stored, run), run_bytes(stored));
    check_codes(stored, run, data);
    for_rows(parallel, stored.rows.rows, [&](std::int64_t begin, std::int64_t end) {
      convert_rows(stored, form, scales, run, begin, end, data.data(), target.data());
    });
  }
}

// A transposed weight: each row of the stored matrix is converted, a piece at a time, and becomes a column.
template <class T>
void load_columns(const StoredLinear& stored, const ByteSource& source, const Parallel* parallel, T* out) {
  const Dtype dtype = stored.weight.entry->dtype;
  const std::int64_t size = size_of(dtype), first = stored.rows.first % stored.pitch;
  const auto matrix = static_cast<std::uint64_t>(stored.rows.first / stored.pitch);
  const std::span<const std::byte> data =
      source.view(stored.weight, matrix * matrix_bytes(stored), matrix_bytes(stored));
  for_rows(parallel, stored.in, [&](std::int64_t begin, std::int64_t end) {
    std::array<T, 512> piece;
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t o = 0; o < stored.out; o += std::ssize(piece)) {
        const std::int64_t count = std::min<std::int64_t>(stored.out - o, std::ssize(piece));
        const std::byte* row = data.data() + (i * stored.pitch + first + o) * size;
        if constexpr (std::is_same_v<T, float>)
          convert_to_f32(dtype, row, count, piece.data());
        else
          convert_to_bf16(dtype, row, count, piece.data());
        for (std::int64_t k = 0; k < count; ++k) out[(o + k) * stored.in + i] = piece[static_cast<std::size_t>(k)];
      }
  });
}

void load_transposed(const StoredLinear& stored, Form form, const ByteSource& source, const Parallel* parallel,
                     std::span<std::byte> memory) {
  if (form == Form::to_f32) return load_columns(stored, source, parallel, reinterpret_cast<float*>(memory.data()));
  load_columns(stored, source, parallel, reinterpret_cast<Bfloat16*>(memory.data()));
}

// BlockScales::small_codes of a loaded weight, behind its scales, and the check of its codes.
const std::uint8_t* mark_small_codes(const StoredLinear& stored, const Parallel* parallel, const std::byte* data,
                                     std::span<std::byte> scales) {
  auto* marks = reinterpret_cast<std::uint8_t*>(scales.last(mark_bytes(stored)).data());
  std::atomic<bool> clean = true;
  MarkSmallCodesFn* mark = mark_small_codes_kernel.best();
  for_rows(parallel, stored.out, [&](std::int64_t begin, std::int64_t end) {
    if (!mark(reinterpret_cast<const std::uint8_t*>(data), stored.in, begin, end, marks)) clean = false;
  });
  const auto run_bytes_loaded = static_cast<std::size_t>(run_bytes(stored));
  for (std::int64_t run = 0; run < stored.rows.runs && !clean; ++run)
    check_codes(stored, run, {data + static_cast<std::size_t>(run) * run_bytes_loaded, run_bytes_loaded});
  return marks;
}

Tensor make_tensor(const StoredLinear& stored, Form form, const void* data, const void* scales,
                   const std::uint8_t* small_codes = nullptr) {
  const std::array<std::int64_t, 2> shape = {stored.out, stored.in};
  if (form == Form::to_f32) return Tensor(Dtype::f32, shape, data);
  if (form != Form::as_stored) return Tensor(Dtype::bf16, shape, data);
  if (stored.is_mxfp4()) return Tensor::mxfp4(stored.out, stored.in, data, static_cast<const std::uint8_t*>(scales));
  if (!stored.scale) return Tensor(stored.weight.entry->dtype, shape, data);
  BlockScales blocks = block_scales(stored, scales);
  blocks.small_codes = small_codes;
  return Tensor(Dtype::f8_e4m3, shape, data, blocks);
}

// room_of() without the scales of what is dequantized.
LinearRoom kept_room(const StoredLinear& stored, const WeightOptions& options) noexcept {
  LinearRoom room = room_of(stored, options);
  if (form_of(stored, options) != Form::as_stored) room.scales = 0;
  return room;
}

// The mapped file.
class FileBytes final : public ByteSource {
 public:
  std::span<const std::byte> view(const StoredTensor& tensor, std::uint64_t begin, std::uint64_t count) const override {
    return tensor.file->read(part_of(tensor, begin, count));
  }
  void copy(const StoredTensor& tensor, std::uint64_t begin, std::span<std::byte> target) const override {
    tensor.file->read_into(part_of(tensor, begin, target.size()), target);
  }

 private:
  static TensorEntry part_of(const StoredTensor& tensor, std::uint64_t begin, std::uint64_t count) {
    TensorEntry part;
    part.name = tensor.entry->name;
    part.offset = tensor.entry->offset + begin;
    part.bytes = count;
    return part;
  }
};

}  // namespace

std::vector<TensorRange> ranges_of(const StoredLinear& stored) {
  std::vector<TensorRange> ranges;
  if (stored.scale && stored.is_mxfp4()) ranges.push_back({stored.scale, 0, stored.scale.entry->bytes});
  if (stored.scale && !stored.is_mxfp4())
    for (std::int64_t segment = 0; segment < stored.grid.segments; ++segment)
      ranges.push_back(scale_range(stored, segment));
  if (stored.pitch > 0) {
    const std::uint64_t bytes = matrix_bytes(stored);
    ranges.push_back({stored.weight, static_cast<std::uint64_t>(stored.rows.first / stored.pitch) * bytes, bytes});
  } else {
    for (std::int64_t run = 0; run < stored.rows.runs; ++run)
      ranges.push_back({stored.weight, run_begin(stored, run), run_bytes(stored)});
  }
  return ranges;
}

LinearRoom room_of(const StoredLinear& stored, const WeightOptions& options) noexcept {
  LinearRoom room{.weights = memory_bytes(stored, options)};
  if (stored.scale && stored.is_mxfp4()) room.scales = stored.scale_bytes();
  if (stored.scale && !stored.is_mxfp4())
    room.scales =
        static_cast<std::uint64_t>(stored.grid.rows * stored.grid.columns) * sizeof(float) + mark_bytes(stored);
  return room;
}

Tensor arrange_linear(const StoredLinear& stored, const WeightOptions& options, const ByteSource& source,
                      std::span<std::byte> weights, std::span<std::byte> scales) {
  const Form form = form_of(stored, options);
  if (stored.scale && stored.is_mxfp4()) read_exponents(stored, source, scales);
  if (stored.scale && !stored.is_mxfp4()) read_scales(stored, source, scales);
  const std::byte* data = weights.data();
  if (stored.pitch > 0) {
    load_transposed(stored, form, source, options.parallel, weights);
  } else if (!weights.empty()) {
    load_runs(stored, form, source, scales.data(), options.parallel, weights);
  } else {
    data = source.view(stored.weight, run_begin(stored, 0), run_bytes(stored)).data();
  }
  const std::uint8_t* small_codes = nullptr;
  if (form == Form::as_stored && stored.weight.entry->dtype == Dtype::f8_e4m3)
    small_codes = mark_small_codes(stored, options.parallel, data, scales);
  return make_tensor(stored, form, data, scales.data(), small_codes);
}

const ByteSource& mapped_bytes() noexcept {
  static const FileBytes bytes;
  return bytes;
}

LoadedLinear load_linear(const StoredLinear& stored, const WeightOptions& options) {
  return load_linear(stored, options, mapped_bytes());
}

LoadedLinear load_linear(const StoredLinear& stored, const WeightOptions& options, const ByteSource& source) {
  const LinearRoom room = room_of(stored, options);
  LoadedLinear loaded;
  loaded.scales = Buffer(static_cast<std::size_t>(room.scales), "scales");
  loaded.memory = Buffer(static_cast<std::size_t>(room.weights), stored.weight.entry->name.c_str());
  loaded.tensor = arrange_linear(stored, options, source, {loaded.memory.data(), loaded.memory.bytes()},
                                 {loaded.scales.data(), loaded.scales.bytes()});
  loaded.unscaled = has_unit_scales(stored, loaded.scales.data());
  if (form_of(stored, options) != Form::as_stored) loaded.scales = Buffer();
  return loaded;
}

Tensor load_linear(const StoredLinear& stored, const WeightOptions& options, const ByteSource& source,
                   std::byte* memory) {
  const LinearRoom room = room_of(stored, options);
  const auto weights = static_cast<std::size_t>(room.weights), scales = static_cast<std::size_t>(room.scales);
  Buffer dropped;  // scales of what is dequantized
  std::byte* at = memory + Buffer::aligned(weights);
  if (form_of(stored, options) != Form::as_stored) at = (dropped = Buffer(scales, "scales")).data();
  return arrange_linear(stored, options, source, {memory, weights}, {at, scales});
}

std::uint64_t placed_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept {
  const LinearRoom room = kept_room(stored, options);
  return Buffer::aligned(room.weights) + Buffer::aligned(room.scales);
}

Tensor plan_linear(const StoredLinear& stored, const WeightOptions& options) {
  const std::byte* unread = stored.weight.file->data(*stored.weight.entry).data();
  return make_tensor(stored, form_of(stored, options), unread, unread);
}

std::uint64_t viewed_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept {
  std::uint64_t bytes = stored.scale && !stored.is_mxfp4() ? stored.scale_bytes() : 0;
  if (stored.pitch > 0) return bytes + matrix_bytes(stored);
  return form_of(stored, options) == Form::as_stored ? bytes : bytes + stored.bytes();
}

std::uint64_t owned_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept {
  const LinearRoom room = kept_room(stored, options);
  return room.weights + room.scales;
}

std::uint64_t footprint_of(const StoredLinear& stored, const WeightOptions& options) noexcept {
  const LinearRoom room = kept_room(stored, options);
  return Buffer::footprint(room.weights) + Buffer::footprint(room.scales);
}

}  // namespace millrace
