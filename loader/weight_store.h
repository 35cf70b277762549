// WeightStore: the resident weights of a model by canonical name, in the form its operators take. The caller demands
// shapes; whatever deviates is an error that names the tensor as files spell it. Owns what it converts and views the
// checkpoint otherwise; what is asked for twice is the same memory twice. One thread at a time; the tensors it returned
// may be read by any thread while both live.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loader/checkpoint.h"
#include "loader/load_linear.h"
#include "loader/tensor_stream.h"
#include "loader/weight_options.h"
#include "ops/linear_sketch.h"

namespace millrace {

inline constexpr int max_mtp_layers = 64;

// Of a multi-token-prediction layer's tensor ("mtp.layers.2.eh_proj.weight") the layer, of any other -1.
int mtp_layer_of(std::string_view canonical) noexcept;

class WeightStore {
 public:
  // `checkpoint` must outlive the store and the tensors it returns.
  WeightStore(const Checkpoint& checkpoint, WeightOptions options);

  const Checkpoint& checkpoint() const noexcept { return *checkpoint_; }
  const WeightOptions& options() const noexcept { return options_; }

  bool has(std::string_view name) const noexcept { return static_cast<bool>(checkpoint_->find(name)); }

  // The methods below throw Error: not_found for a missing tensor; bad_file for another shape or unusable values;
  // unsupported for another dtype; io.

  // Norm weights, biases, sinks: (count) in BF16, F16 or F32. In Numerics::hf rounded to bf16 unless `pinned`, which
  // also demands finite values (the router's correction bias).
  std::vector<float> vector(std::string_view name, std::int64_t count, bool pinned = false);

  // (out, in), see load_linear. segments_hint: kv heads of the layer for k_proj, else 1.
  Tensor linear(std::string_view name, std::int64_t out, std::int64_t in, std::int64_t segments_hint = 1);

  // The sketch of a weight that linear() returned and can_sketch(). It counts as a part of the prediction layers.
  LinearSketch sketch(std::string_view name);

  // Some rows of a weight of `rows.runs` chunks of `rows.stride` rows, each chunk with a scale grid of its own, and of
  // a vector of such chunks.
  Tensor linear_rows(std::string_view name, const RowRuns& rows, std::int64_t in);
  std::vector<float> vector_rows(std::string_view name, const RowRuns& rows);

  // (experts, hidden) in `dtype`, F32 or BF16; F32 values are rounded to bf16 in Numerics::hf.
  Tensor router(std::string_view name, std::int64_t experts, std::int64_t hidden, Dtype dtype = Dtype::f32);

  // (vocab, hidden) BF16, F16 or F32. In place, unless the options want it resident, its rows are read from the disk
  // when they are first used.
  Tensor embedding(std::string_view name, std::int64_t vocab, std::int64_t hidden);

  // Finds and checks a Linear's weight for someone who loads it later, and counts it as used.
  StoredLinear find_linear(std::string_view name, std::int64_t out, std::int64_t in, std::int64_t segments_hint = 1);

  // The same for one tensor with the matrices of all experts, see find_stacked.
  StoredLinear find_stacked(std::string_view name, std::int64_t matrices, std::int64_t out, std::int64_t in,
                            std::int64_t parts, bool transposed = false);

  // Finds a tensor (shape...) and counts it as used.
  StoredTensor find(std::string_view name, std::span<const std::int64_t> shape);

  // Tensors nobody asked for, as spelled in their file, by canonical name.
  std::vector<std::string> unused() const;

  // What is odd about what was loaded, a sentence each.
  std::vector<std::string> warnings() const;

  // Memory taken beside the mapped files.
  std::uint64_t owned_bytes() const noexcept { return owned_bytes_; }

  // What reading them takes until finish_loading(), beside what stays.
  std::uint64_t loading_bytes() const noexcept;

  // The same for each weight that was asked for, by canonical name, with what buffers are rounded up to. Vectors count
  // as taken by those who asked for them.
  const std::map<std::string, std::uint64_t, std::less<>>& footprints() const noexcept { return footprints_; }

  // For a store of headers_only. From now on nothing has been asked for yet:
  void start_over();
  // The same, and what is asked for is loaded. If that comes in the order in which it was planned since the last
  // start_over(), it is read ahead, around the page cache and as TensorStream says, until finish_loading(); with so
  // much memory beyond loading_bytes().
  void start_loading(std::size_t more_bytes = 0);
  void finish_loading() noexcept { stream_.reset(); }

 private:
  const ByteSource& source() const noexcept;
  std::span<const std::byte> bytes_of(const StoredTensor& stored) const;
  void plan_reading(const StoredTensor& stored);
  void report(std::uint64_t bytes);
  void use(std::string_view name, const StoredLinear& stored);
  Tensor load(std::string_view name, const StoredLinear& stored);
  void count(std::string_view name, std::uint64_t bytes);
  const std::byte* keep(Buffer memory);
  const std::byte* keep(std::string_view name, Buffer memory);
  Tensor load_router(std::string_view name, const StoredTensor& stored, Dtype dtype);
  Tensor view(std::string_view name, const StoredTensor& stored);

  const Checkpoint* checkpoint_;
  WeightOptions options_;
  std::deque<Buffer> memory_;
  // Handed out by linear(), router() and embedding().
  std::map<std::string, Tensor, std::less<>> linears_, routers_, tables_;
  std::map<std::string, LinearSketch, std::less<>> sketches_;
  std::set<std::string, std::less<>> used_;
  std::map<std::string, std::uint64_t, std::less<>> footprints_;
  std::vector<TensorRange> planned_;  // what will be read, in that order
  std::unique_ptr<TensorStream> stream_;
  std::uint64_t most_viewed_ = 0;  // at a time, while a weight is loaded
  std::uint64_t done_bytes_ = 0, total_bytes_ = 0, owned_bytes_ = 0;
  std::int64_t unscaled_ = 0;  // FP8 weights whose scales are all 1
  std::string first_unscaled_;
};

}  // namespace millrace
