#include "loader/stored_linear.h"

#include <array>

#include "loader/convert.h"
#include "loader/mxfp4_blocks.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// The companion of `weight` that scales it, whose name ends in `wanted`; it must not have one with the other ending.
StoredTensor demand_scale(const Checkpoint& checkpoint, std::string_view name, const StoredTensor& weight,
                          std::string_view wanted, std::span<const std::int64_t> planned_shape) {
  const StoredTensor scale = checkpoint.find_planned(std::string(name).append(wanted), planned_shape);
  require(static_cast<bool>(scale), Errc::bad_file, "{} is {}, but {}{} is missing", title_of(weight),
          name_of(weight.entry->dtype), weight.entry->name, wanted);
  return scale;
}

void refuse_scale(const Checkpoint& checkpoint, std::string_view name, const StoredTensor& weight,
                  std::string_view ending) {
  require(!checkpoint.find(std::string(name).append(ending)), Errc::bad_file,
          "{}: {}{} are scales of {}, which is {} and takes none of that name", weight.file->path(), weight.entry->name,
          ending, weight.entry->name, name_of(weight.entry->dtype));
}

constexpr std::string_view block_scales = "_scale_inv", exponents = "_scale";

StoredTensor demand_block_scales(const Checkpoint& checkpoint, std::string_view name, const StoredTensor& weight,
                                 std::int64_t chunks) {
  // What a weight of that shape is published with: a grid over each chunk, or each matrix.
  std::vector<std::int64_t> planned = weight.entry->shape;
  const std::size_t rows = planned.size() - 2;
  planned[rows] = chunks * scale_blocks(planned[rows] / chunks);
  planned[rows + 1] = scale_blocks(planned[rows + 1]);
  const StoredTensor scale = demand_scale(checkpoint, name, weight, block_scales, planned);
  require(is_scale_dtype(scale.entry->dtype), Errc::unsupported,
          "{} is {}; scales in F32, BF16, F16, F8_E8M0 or U8 were expected", title_of(scale),
          name_of(scale.entry->dtype));
  return scale;
}

// A weight without scales, or with those of F8_E4M3, whose grid the caller adds.
StoredLinear find_plain_or_fp8(const Checkpoint& checkpoint, std::string_view name, std::span<const std::int64_t> shape,
                               std::int64_t out, std::int64_t in, std::int64_t chunks = 1) {
  StoredLinear stored;
  stored.weight = checkpoint.demand(name, shape);
  stored.out = out;
  stored.in = in;
  stored.rows = {.first = 0, .runs = 1, .rows = out, .stride = out};
  refuse_scale(checkpoint, name, stored.weight, exponents);
  if (stored.weight.entry->dtype == Dtype::f8_e4m3) {
    stored.scale = demand_block_scales(checkpoint, name, stored.weight, chunks);
  } else {
    require_float(stored.weight);
    refuse_scale(checkpoint, name, stored.weight, block_scales);
  }
  return stored;
}

StoredLinear find_mxfp4(const Checkpoint& checkpoint, std::string_view name, std::int64_t out, std::int64_t in) {
  StoredLinear stored;
  require(in % mxfp4_block == 0, Errc::unsupported,
          "{}: tensor {} is U8, but a row of {} weights is not made of MXFP4 blocks of {}", checkpoint.path(),
          checkpoint.spelled(name), in, mxfp4_block);
  stored.weight = checkpoint.demand(name, std::array{out, in / 2});
  stored.out = out;
  stored.in = in;
  stored.rows = {.first = 0, .runs = 1, .rows = out, .stride = out};
  refuse_scale(checkpoint, name, stored.weight, block_scales);
  const std::array<std::int64_t, 2> grid = {out, in / mxfp4_block};
  demand_scale(checkpoint, name, stored.weight, exponents, grid);
  stored.scale = checkpoint.demand(std::string(name).append(exponents), grid);
  const Dtype dtype = stored.scale.entry->dtype;
  require(dtype == Dtype::u8 || dtype == Dtype::f8_e8m0, Errc::unsupported,
          "{} is {}; exponents of MXFP4 in U8 or F8_E8M0 were expected", title_of(stored.scale), name_of(dtype));
  return stored;
}

}  // namespace

std::int64_t StoredLinear::row_bytes() const noexcept {
  return is_mxfp4() ? in / 2 : in * size_of(weight.entry->dtype);
}

std::uint64_t StoredLinear::scale_bytes() const noexcept {
  if (!scale) return 0;
  if (is_mxfp4()) return scale.entry->bytes;
  return static_cast<std::uint64_t>(grid.rows * grid.columns * size_of(scale.entry->dtype));
}

std::string title_of(const StoredTensor& stored) {
  return fmt::format("{}: tensor {}", stored.file->path(), stored.entry->name);
}

void require_float(const StoredTensor& stored) {
  require(is_float_dtype(stored.entry->dtype), Errc::unsupported, "{} is {}; BF16, F16 or F32 was expected",
          title_of(stored), name_of(stored.entry->dtype));
}

StoredLinear find_linear(const Checkpoint& checkpoint, std::string_view name, std::int64_t out, std::int64_t in,
                         std::int64_t segments_hint) {
  const StoredTensor found = checkpoint.find(name);
  if (found && found.entry->dtype == Dtype::u8) return find_mxfp4(checkpoint, name, out, in);
  StoredLinear stored = find_plain_or_fp8(checkpoint, name, std::array{out, in}, out, in);
  if (stored.scale)
    stored.grid = resolve_scale_grid(title_of(stored.weight), out, in, stored.scale.entry->shape, segments_hint);
  return stored;
}

StoredLinear find_chunked(const Checkpoint& checkpoint, std::string_view name, std::int64_t out, std::int64_t in,
                          std::int64_t chunks) {
  StoredLinear stored = find_plain_or_fp8(checkpoint, name, std::array{out, in}, out, in, chunks);
  if (stored.scale) stored.grid = segmented_grid(title_of(stored.weight), out, in, stored.scale.entry->shape, chunks);
  return stored;
}

StoredLinear find_stacked(const Checkpoint& checkpoint, std::string_view name, std::int64_t matrices, std::int64_t out,
                          std::int64_t in, std::int64_t parts, bool transposed) {
  if (transposed) {
    StoredLinear stored = find_plain_or_fp8(checkpoint, name, std::array{matrices, in, out}, matrices * out, in);
    require_float(stored.weight);
    stored.pitch = out;
    return stored;
  }
  StoredLinear stored = find_plain_or_fp8(checkpoint, name, std::array{matrices, out, in}, matrices * out, in);
  if (!stored.scale) return stored;
  const std::vector<std::int64_t>& shape = stored.scale.entry->shape;
  const std::int64_t whole = scale_blocks(out), apart = parts * scale_blocks(out / parts);
  require(shape.size() == 3 && shape[0] == matrices && (shape[1] == whole || shape[1] == apart), Errc::bad_file,
          "{}: scales of shape {} do not fit its shape {}; a grid of blocks for each of the {} matrices was expected",
          title_of(stored.weight), shape_text(shape), shape_text(stored.weight.entry->shape), matrices);
  require(whole != apart || parts == 1 || out / parts % BlockScales::block == 0, Errc::unsupported,
          "{}: scales of shape {} may belong to blocks over each matrix or over each of its {} parts, which differ",
          title_of(stored.weight), shape_text(shape), parts);
  const std::array<std::int64_t, 2> all = {matrices * shape[1], shape[2]};
  const std::int64_t segments = shape[1] == whole ? matrices : matrices * parts;
  stored.grid = segmented_grid(title_of(stored.weight), matrices * out, in, all, segments);
  return stored;
}

StoredLinear cut_linear(const StoredLinear& whole, const RowRuns& rows) {
  StoredLinear part = whole;
  part.out = rows.total();
  part.rows = rows;
  if (whole.scale) part.grid = cut_grid(whole.grid, whole.out / whole.grid.segments, rows);
  return part;
}

}  // namespace millrace
