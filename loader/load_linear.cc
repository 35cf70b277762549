#include "loader/load_linear.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <vector>

#include "loader/convert.h"
#include "loader/mxfp4_blocks.h"
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

// Rows [begin, begin + rows) of a tensor with that many bytes in a row, as an entry of the same file.
TensorEntry rows_of(const TensorEntry& entry, std::int64_t row_bytes, std::int64_t begin, std::int64_t rows) {
  TensorEntry part;
  part.name = entry.name;
  part.offset = entry.offset + static_cast<std::uint64_t>(begin * row_bytes);
  part.bytes = static_cast<std::uint64_t>(rows * row_bytes);
  return part;
}

TensorEntry run_entry(const StoredLinear& stored, std::int64_t run) {
  return rows_of(*stored.weight.entry, stored.row_bytes(), stored.rows.first + run * stored.rows.stride,
                 stored.rows.rows);
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

// Of the marks of small codes, which lie behind the scales.
std::uint64_t mark_bytes(const StoredLinear& stored) noexcept {
  return static_cast<std::uint64_t>(stored.out * ((stored.grid.columns + 7) / 8));
}

std::uint64_t memory_of_scales(const StoredLinear& stored, Form form) noexcept {
  if (!stored.scale || form != Form::as_stored) return 0;
  if (stored.is_mxfp4()) return stored.scale_bytes();
  return static_cast<std::uint64_t>(stored.grid.rows * stored.grid.columns) * sizeof(float) + mark_bytes(stored);
}

Buffer read_exponents(const StoredLinear& stored) {
  const TensorEntry& entry = *stored.scale.entry;
  Buffer memory(static_cast<std::size_t>(entry.bytes), "exponents");
  stored.scale.file->read_into(entry, {memory.data(), memory.bytes()});
  const auto* exponents = reinterpret_cast<const std::uint8_t*>(memory.data());
  const std::int64_t bad = find_bad_exponent({exponents, memory.bytes()}), columns = stored.in / mxfp4_block;
  if (bad >= 0)
    fail(Errc::bad_file, "{}: the exponent at row {}, column {} is {}; 252 is the largest that keeps MXFP4 finite",
         title_of(stored.scale), bad / columns, bad % columns, exponents[bad]);
  return memory;
}

// With room for the marks behind them.
Buffer read_scales(const StoredLinear& stored) {
  const TensorEntry& entry = *stored.scale.entry;
  const ScaleGrid& grid = stored.grid;
  const std::int64_t per_segment = grid.rows_per_segment(), row_bytes = grid.columns * size_of(entry.dtype);
  const std::size_t scale_bytes = static_cast<std::size_t>(grid.rows * grid.columns) * sizeof(float);
  Buffer memory(scale_bytes + static_cast<std::size_t>(mark_bytes(stored)), "block scales");
  auto* scales = reinterpret_cast<float*>(memory.data());
  for (std::int64_t segment = 0; segment < grid.segments; ++segment, scales += per_segment * grid.columns) {
    const std::int64_t first = grid.first_row + segment * grid.stride;
    const std::int64_t bad =
        convert_scales(entry.dtype, stored.scale.file->read(rows_of(entry, row_bytes, first, per_segment)), scales);
    if (bad >= 0)
      fail(Errc::bad_file, "{}: the scale at row {}, column {} is {}", title_of(stored.scale),
           first + bad / grid.columns, bad % grid.columns, scales[bad]);
  }
  return memory;
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
void convert_rows(const StoredLinear& stored, Form form, const Buffer& scales, std::int64_t run, std::int64_t begin,
                  std::int64_t end, const std::byte* data, std::byte* memory) {
  const std::int64_t in = stored.in, count = (end - begin) * in;
  const Dtype dtype = stored.weight.entry->dtype;
  const std::byte* rows = data + begin * stored.row_bytes();
  std::byte* out = memory + begin * loaded_row_bytes(stored, form);
  if (form == Form::to_bf16) return convert_to_bf16(dtype, rows, count, reinterpret_cast<Bfloat16*>(out));
  if (form == Form::to_f32) return convert_to_f32(dtype, rows, count, reinterpret_cast<float*>(out));
  if (stored.is_mxfp4())
    return dequantize_mxfp4(reinterpret_cast<const std::uint8_t*>(rows),
                            reinterpret_cast<const std::uint8_t*>(scales.data()) + begin * in / mxfp4_block,
                            end - begin, in, reinterpret_cast<Bfloat16*>(out));
  BlockScales of_run = block_scales(stored, scales.data());
  if (stored.rows.runs > 1) of_run.data += run * stored.grid.rows_per_segment() * stored.grid.columns;
  dequantize_rows(reinterpret_cast<const std::uint8_t*>(data), in, of_run, begin, end,
                  reinterpret_cast<Bfloat16*>(memory));
}

// Brings all runs into `memory`.
void load_runs(const StoredLinear& stored, Form form, const Buffer& scales, const Parallel* parallel, Buffer& memory) {
  const std::size_t run_bytes = memory.bytes() / static_cast<std::size_t>(stored.rows.runs);
  for (std::int64_t run = 0; run < stored.rows.runs; ++run) {
    const std::span<std::byte> target = {memory.data() + static_cast<std::size_t>(run) * run_bytes, run_bytes};
    const TensorEntry entry = run_entry(stored, run);
    if (form == Form::as_stored) {
      stored.weight.file->read_into(entry, target);
      check_codes(stored, run, target);
      continue;
    }
    const std::span<const std::byte> data = stored.weight.file->read(entry);
    check_codes(stored, run, data);
    for_rows(parallel, stored.rows.rows, [&](std::int64_t begin, std::int64_t end) {
      convert_rows(stored, form, scales, run, begin, end, data.data(), target.data());
    });
  }
}

// A transposed weight: each row of the stored matrix is converted and becomes a column.
template <class T>
void load_columns(const StoredLinear& stored, const Parallel* parallel, T* out) {
  const TensorEntry& entry = *stored.weight.entry;
  const std::int64_t size = size_of(entry.dtype), matrix = stored.rows.first / stored.pitch;
  const std::int64_t first = stored.rows.first % stored.pitch;
  const std::span<const std::byte> data =
      stored.weight.file->read(rows_of(entry, stored.pitch * size, matrix * stored.in, stored.in));
  for_rows(parallel, stored.in, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> column(static_cast<std::size_t>(stored.out));
    for (std::int64_t i = begin; i < end; ++i) {
      const std::byte* row = data.data() + (i * stored.pitch + first) * size;
      if constexpr (std::is_same_v<T, float>)
        convert_to_f32(entry.dtype, row, stored.out, column.data());
      else
        convert_to_bf16(entry.dtype, row, stored.out, column.data());
      for (std::int64_t o = 0; o < stored.out; ++o) out[o * stored.in + i] = column[static_cast<std::size_t>(o)];
    }
  });
}

void load_transposed(const StoredLinear& stored, Form form, const Parallel* parallel, Buffer& memory) {
  if (form == Form::to_f32) return load_columns(stored, parallel, reinterpret_cast<float*>(memory.data()));
  load_columns(stored, parallel, reinterpret_cast<Bfloat16*>(memory.data()));
}

// BlockScales::small_codes of a loaded weight, behind its scales.
const std::uint8_t* mark_small_codes(const StoredLinear& stored, const Parallel* parallel, const std::byte* data,
                                     Buffer& scales) {
  auto* marks = reinterpret_cast<std::uint8_t*>(scales.data() + scales.bytes() - mark_bytes(stored));
  for_rows(parallel, stored.out, [&](std::int64_t begin, std::int64_t end) {
    millrace::mark_small_codes(reinterpret_cast<const std::uint8_t*>(data), stored.in, begin, end, marks);
  });
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

}  // namespace

LoadedLinear load_linear(const StoredLinear& stored, const WeightOptions& options) {
  const Form form = form_of(stored, options);
  LoadedLinear loaded;
  if (stored.scale) loaded.scales = stored.is_mxfp4() ? read_exponents(stored) : read_scales(stored);
  loaded.memory = Buffer(static_cast<std::size_t>(memory_bytes(stored, options)), stored.weight.entry->name.c_str());
  const std::byte* data = loaded.memory.data();
  if (stored.pitch > 0) {
    load_transposed(stored, form, options.parallel, loaded.memory);
  } else if (loaded.memory.bytes() > 0) {
    load_runs(stored, form, loaded.scales, options.parallel, loaded.memory);
  } else {
    const std::span<const std::byte> mapped = stored.weight.file->read(run_entry(stored, 0));
    check_codes(stored, 0, mapped);
    data = mapped.data();
  }
  if (form != Form::as_stored) loaded.scales = Buffer();
  const std::uint8_t* small_codes = nullptr;
  if (form == Form::as_stored && stored.weight.entry->dtype == Dtype::f8_e4m3)
    small_codes = mark_small_codes(stored, options.parallel, data, loaded.scales);
  loaded.tensor = make_tensor(stored, form, data, loaded.scales.data(), small_codes);
  return loaded;
}

Tensor plan_linear(const StoredLinear& stored, const WeightOptions& options) {
  const std::byte* unread = stored.weight.file->data(*stored.weight.entry).data();
  return make_tensor(stored, form_of(stored, options), unread, unread);
}

std::uint64_t owned_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept {
  return memory_bytes(stored, options) + memory_of_scales(stored, form_of(stored, options));
}

}  // namespace millrace
