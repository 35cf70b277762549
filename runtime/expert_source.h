// ExpertSource: where the expert operator gets its weights from, whether they are resident, mapped or streamed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "runtime/tensor.h"

namespace millrace {

// One expert's matrices in a form that Linear kernels accept: gate and up (width, hidden), down (hidden, width).
struct ExpertWeights {
  Tensor gate, up, down;
};

class ExpertSource;

// Keeps an expert's weights in memory while it lives. Move-only.
class ExpertLease {
 public:
  ExpertLease(ExpertSource& source, int layer, int expert, const ExpertWeights& weights)
      : source_(&source), layer_(layer), expert_(expert), weights_(weights) {}
  ExpertLease(ExpertLease&& other) noexcept
      : source_(std::exchange(other.source_, nullptr)),
        layer_(other.layer_),
        expert_(other.expert_),
        weights_(other.weights_) {}
  ExpertLease& operator=(ExpertLease&&) = delete;
  inline ~ExpertLease();

  const ExpertWeights& weights() const noexcept { return weights_; }

 private:
  ExpertSource* source_;
  int layer_, expert_;
  ExpertWeights weights_;
};

// What a layer of a pass asks for.
struct ExpertDemand {
  int layer = 0;
  std::int64_t rows = 0;                  // of the pass
  std::span<const std::int32_t> experts;  // ascending ids
  const std::int32_t* first = nullptr;    // by id: expert e is for first[e + 1] - first[e] of the rows
};

// What a later layer may ask for.
struct ExpertHint {
  int layer = 0;
  std::span<const std::int32_t> experts;  // ids that the layer has, each once, the likeliest first
};

// All methods are for the computing thread.
class ExpertSource {
 public:
  virtual ~ExpertSource() = default;

  // Announces the acquire() calls that follow, each expert once: a source may begin to read. What an earlier demand
  // announced and nobody acquired is void.
  virtual void demand([[maybe_unused]] const ExpertDemand& demand) {}

  // A source may read these once nothing that is demanded waits. Replaces earlier hints; the next demand voids it.
  // Results do not depend on hints, and an error of what they bring is none unless someone acquires it.
  virtual void hint([[maybe_unused]] const ExpertHint& hint) {}

  // Bytes of the weights of one expert of `layer` as kernels read them, scales included.
  virtual std::uint64_t expert_bytes(int layer) const = 0;

  // The weights if they are in memory; never waits.
  virtual std::optional<ExpertLease> try_acquire(int layer, int expert) { return acquire(layer, expert); }

  // Blocks until the weights are in memory. Throws Error naming the file and the tensor.
  virtual ExpertLease acquire(int layer, int expert) = 0;

 protected:
  friend class ExpertLease;
  virtual void release([[maybe_unused]] int layer, [[maybe_unused]] int expert) noexcept {}
};

ExpertLease::~ExpertLease() {
  if (source_ != nullptr) source_->release(layer_, expert_);
}

}  // namespace millrace
