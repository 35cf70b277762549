// Program: an ordered, immutable list of steps, built once and shared by all sessions. Edges are value ids; the order
// of the list is the order of execution. There are no passes over it except the planning of memory (workspace.h).
// Step and value names follow the checkpoint's module names without the leading "model.".
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/dtype.h"
#include "runtime/kv_cache.h"
#include "runtime/op.h"

namespace millrace {

class Observer;
class Workspace;

using ValueId = std::int32_t;

enum class RowSpace {
  batch,   // one row per row of the batch
  logits,  // one row per entry of Batch::logits_rows
};

// A value is produced by one step, or by the caller before the pass, and has `row_shape` elements per row.
struct Value {
  std::string name;
  std::vector<std::int64_t> row_shape;
  Dtype dtype = Dtype::f32;  // f32 or i32
  RowSpace row_space = RowSpace::batch;

  std::int64_t row_elements() const noexcept;
  std::int64_t row_bytes() const noexcept { return row_elements() * size_of(dtype); }
};

struct Step {
  std::string name;
  std::unique_ptr<const Op> op;
  std::vector<ValueId> inputs, outputs;
};

class Program {
 public:
  std::span<const Step> steps() const noexcept { return steps_; }
  std::span<const Value> values() const noexcept { return values_; }
  const Value& value(ValueId id) const noexcept { return values_[static_cast<std::size_t>(id)]; }
  // What each attention layer stores per token; index = the layer number given to ProgramBuilder::add_kv_layer.
  std::span<const LayerKvShape> kv_layers() const noexcept { return kv_layers_; }
  // Values the caller writes (Workspace::data) before each pass.
  std::span<const ValueId> inputs() const noexcept { return inputs_; }
  // Values that can be read (Workspace::data) until the next pass, beside the outputs of the last step.
  std::span<const ValueId> kept() const noexcept { return kept_; }
  // The value named `name`, or -1.
  ValueId find(std::string_view name) const noexcept;

  // One pass over the batch, whose caches must have room (KvCache::reserve). After success every run's cache has grown
  // by its rows; after an exception the caches of the batch must be cleared. `observer` may be null.
  void run(const Batch& batch, Workspace& workspace, const Parallel& parallel, Observer* observer) const;

  // The steps of RowSpace::logits once more, for other rows of the batch that run() has just computed.
  void run_logits(const Batch& batch, Workspace& workspace, const Parallel& parallel, Observer* observer) const;

 private:
  friend class ProgramBuilder;
  void run_step(std::size_t index, const Batch& batch, Workspace& workspace, const Parallel& parallel,
                Observer* observer) const;

  std::vector<Step> steps_;
  std::vector<Value> values_;
  std::vector<LayerKvShape> kv_layers_;
  std::vector<ValueId> inputs_, kept_;
};

class ProgramBuilder {
 public:
  // Appends a step and returns the id of its first output; further outputs follow with consecutive ids.
  // A step that reads only the batch has no inputs. Throws Error(bad_argument) on a repeated value name.
  ValueId add_step(std::string name, std::unique_ptr<const Op> op, std::vector<ValueId> inputs,
                   std::vector<Value> outputs);

  // add_step for a step whose single output, of fp32, carries the step's name.
  ValueId add(std::string name, std::unique_ptr<const Op> op, std::vector<ValueId> inputs,
              std::vector<std::int64_t> row_shape, RowSpace row_space = RowSpace::batch);

  // A value that the caller writes before each pass. Throws Error(bad_argument) on a repeated name.
  ValueId add_input(Value input);

  // The memory of `value` is not reused before the next pass.
  void keep(ValueId value);

  // Declares the cache of one attention layer and returns its index.
  int add_kv_layer(const LayerKvShape& shape);

  Program build() &&;

 private:
  ValueId add_value(Value value);

  Program program_;
};

}  // namespace millrace
