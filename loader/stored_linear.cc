#include "loader/stored_linear.h"

#include <algorithm>
#include <array>

#include "loader/convert.h"
#include "runtime/error.h"
#include "runtime/parallel.h"

namespace millrace {
namespace {

// What a weight becomes in memory.
enum class Form { in_place, in_place_scaled, dequantized, to_bf16, to_f32 };

Form form_of(Dtype dtype, const WeightOptions& options) noexcept {
  const bool f32 = options.numerics == Numerics::f32;
  if (dtype == Dtype::f8_e4m3)
    return f32 || options.format == WeightFormat::fp8 ? Form::in_place_scaled : Form::dequantized;
  if (dtype == Dtype::bf16 || (dtype == Dtype::f32 && f32)) return Form::in_place;
  return f32 ? Form::to_f32 : Form::to_bf16;
}

bool is_aligned(std::uint64_t offset, Dtype dtype) noexcept {
  return offset % static_cast<std::uint64_t>(size_of(dtype)) == 0;
}

// body(begin, end) over row ranges, on all threads if there are some.
template <class Body>
void for_rows(const Parallel* parallel, std::int64_t rows, Body&& body) {
  if (parallel)
    parallel->for_range(rows, 1, [&](std::int64_t begin, std::int64_t end, int) { body(begin, end); });
  else
    body(std::int64_t{0}, rows);
}

bool used_in_place(Form form) noexcept {
  return form == Form::in_place || form == Form::in_place_scaled;
}

// The stored bytes: in `memory` if they are to be used as they are and it has room, else in the mapped file.
std::span<const std::byte> read_data(const StoredLinear& stored, Form form, Buffer& memory) {
  const SafetensorsFile& file = *stored.weight.file;
  TensorEntry part;
  part.name = stored.weight.entry->name;
  part.offset = stored.weight.entry->offset + stored.offset;
  part.bytes = stored.bytes();
  if (!used_in_place(form) || memory.bytes() == 0) return file.read(part);
  file.read_into(part, {memory.data(), memory.bytes()});
  return {memory.data(), memory.bytes()};
}

void check_codes(const StoredLinear& stored, std::span<const std::byte> data) {
  const std::int64_t at = find_nan_code({reinterpret_cast<const std::uint8_t*>(data.data()), data.size()});
  if (at >= 0)
    fail(Errc::bad_file, "{}: tensor {}: NaN code at row {}, column {}", stored.weight.file->path(),
         stored.weight.entry->name, at / stored.in, at % stored.in);
}

// Scales to the front of `memory`, which keeps `more` bytes behind them.
BlockScales load_scales(const StoredLinear& stored, Buffer& memory, std::size_t more = 0) {
  const TensorEntry& entry = *stored.scale.entry;
  const std::span<const std::byte> data = stored.scale.file->read(entry);
  const std::int64_t count = stored.grid.rows * stored.grid.columns;
  memory = Buffer(static_cast<std::size_t>(count) * sizeof(float) + more, "block scales");
  auto* scales = reinterpret_cast<float*>(memory.data());
  const std::int64_t bad = convert_scales(entry.dtype, data, scales);
  if (bad >= 0)
    fail(Errc::bad_file, "{}: tensor {}: the scale at row {}, column {} is {}", stored.scale.file->path(), entry.name,
         bad / stored.grid.columns, bad % stored.grid.columns, scales[bad]);
  return {.data = scales, .columns = stored.grid.columns, .segment_rows = stored.out / stored.grid.segments};
}

// What kernels need beside the codes.
BlockScales scales_and_marks(const StoredLinear& stored, std::span<const std::byte> data, const Parallel* parallel,
                             Buffer& memory) {
  const std::int64_t mark_bytes = stored.out * ((stored.grid.columns + 7) / 8);
  BlockScales scales = load_scales(stored, memory, static_cast<std::size_t>(mark_bytes));
  auto* marks = reinterpret_cast<std::uint8_t*>(memory.data()) + memory.bytes() - mark_bytes;
  const auto* codes = reinterpret_cast<const std::uint8_t*>(data.data());
  for_rows(parallel, stored.out,
           [&](std::int64_t begin, std::int64_t end) { mark_small_codes(codes, stored.in, begin, end, marks); });
  scales.small_codes = marks;
  return scales;
}

void dequantize(const StoredLinear& stored, std::span<const std::byte> data, const Parallel* parallel,
                LoadedLinear& loaded) {
  const BlockScales scales = load_scales(stored, loaded.scales);
  const auto* codes = reinterpret_cast<const std::uint8_t*>(data.data());
  auto* out = reinterpret_cast<Bfloat16*>(loaded.memory.data());
  for_rows(parallel, stored.out,
           [&](std::int64_t begin, std::int64_t end) { dequantize_rows(codes, stored.in, scales, begin, end, out); });
  loaded.scales = Buffer();
}

void convert(const StoredLinear& stored, std::span<const std::byte> data, Form form, const Parallel* parallel,
             std::byte* memory) {
  const Dtype dtype = stored.weight.entry->dtype;
  const std::int64_t row_bytes = stored.in * size_of(dtype);
  for_rows(parallel, stored.out, [&](std::int64_t begin, std::int64_t end) {
    const std::byte* rows = data.data() + begin * row_bytes;
    const std::int64_t first = begin * stored.in, count = (end - begin) * stored.in;
    if (form == Form::to_bf16)
      convert_to_bf16(dtype, rows, count, reinterpret_cast<Bfloat16*>(memory) + first);
    else
      convert_to_f32(dtype, rows, count, reinterpret_cast<float*>(memory) + first);
  });
}

Dtype dtype_after(Dtype dtype, Form form) noexcept {
  if (form == Form::dequantized || form == Form::to_bf16) return Dtype::bf16;
  return form == Form::to_f32 ? Dtype::f32 : dtype;
}

}  // namespace

std::uint64_t StoredLinear::bytes() const noexcept {
  return static_cast<std::uint64_t>(out * in * size_of(weight.entry->dtype));
}

void require_float(const StoredTensor& stored) {
  require(is_float_dtype(stored.entry->dtype), Errc::unsupported, "{}: tensor {} is {}; BF16, F16 or F32 was expected",
          stored.file->path(), stored.entry->name, name_of(stored.entry->dtype));
}

StoredLinear find_linear(const Checkpoint& checkpoint, std::string_view name, std::int64_t out, std::int64_t in,
                         std::int64_t segments_hint) {
  const std::array<std::int64_t, 2> shape = {out, in};
  StoredLinear stored;
  stored.weight = checkpoint.demand(name, shape);
  stored.out = out;
  stored.in = in;
  const TensorEntry& entry = *stored.weight.entry;
  const std::string& path = stored.weight.file->path();
  stored.scale = checkpoint.find(std::string(name) + "_scale_inv");
  if (entry.dtype != Dtype::f8_e4m3) {
    require_float(stored.weight);
    require(!stored.scale, Errc::bad_file, "{}: {}_scale_inv are scales of {}, which is {} and takes none", path,
            entry.name, entry.name, name_of(entry.dtype));
    return stored;
  }
  require(static_cast<bool>(stored.scale), Errc::bad_file, "{}: tensor {} is F8_E4M3, but {}_scale_inv is missing",
          path, entry.name, entry.name);
  const TensorEntry& scale = *stored.scale.entry;
  require(is_scale_dtype(scale.dtype), Errc::unsupported,
          "{}: tensor {} is {}; scales in F32, BF16, F16, F8_E8M0 or U8 were expected", stored.scale.file->path(),
          scale.name, name_of(scale.dtype));
  stored.grid = resolve_scale_grid(fmt::format("{}: tensor {}", path, entry.name), out, in, scale.shape, segments_hint);
  return stored;
}

LoadedLinear load_linear(const StoredLinear& stored, const WeightOptions& options) {
  const std::array<std::int64_t, 2> shape = {stored.out, stored.in};
  const Dtype dtype = stored.weight.entry->dtype;
  const Form form = form_of(dtype, options);
  LoadedLinear loaded;
  loaded.memory = Buffer(static_cast<std::size_t>(owned_bytes(stored, options)), stored.weight.entry->name.c_str());
  const std::span<const std::byte> data = read_data(stored, form, loaded.memory);
  if (dtype == Dtype::f8_e4m3) check_codes(stored, data);
  BlockScales scales;
  if (form == Form::in_place_scaled)
    scales = scales_and_marks(stored, data, options.parallel, loaded.scales);
  else if (form == Form::dequantized)
    dequantize(stored, data, options.parallel, loaded);
  else if (!used_in_place(form))
    convert(stored, data, form, options.parallel, loaded.memory.data());
  const void* place = loaded.memory.bytes() > 0 ? loaded.memory.data() : data.data();
  loaded.tensor = Tensor(dtype_after(dtype, form), shape, place, scales);
  return loaded;
}

Tensor plan_linear(const StoredLinear& stored, const WeightOptions& options) {
  const std::array<std::int64_t, 2> shape = {stored.out, stored.in};
  const Dtype dtype = stored.weight.entry->dtype;
  const Form form = form_of(dtype, options);
  const std::byte* unread = stored.weight.file->data(*stored.weight.entry).data();
  BlockScales scales;
  if (form == Form::in_place_scaled)
    scales = {.data = reinterpret_cast<const float*>(unread),
              .columns = stored.grid.columns,
              .segment_rows = stored.out / stored.grid.segments};
  return Tensor(dtype_after(dtype, form), shape, unread, scales);
}

std::uint64_t owned_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept {
  const Dtype dtype = stored.weight.entry->dtype;
  const Form form = form_of(dtype, options);
  const bool aligned = is_aligned(stored.weight.entry->offset + stored.offset, dtype);
  if (used_in_place(form) && aligned && !options.resident) return 0;
  return static_cast<std::uint64_t>(stored.out * stored.in * size_of(dtype_after(dtype, form)));
}

}  // namespace millrace
