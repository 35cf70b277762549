// ExpertSource: where the expert operator gets its weights from, whether they are resident, mapped or streamed.
#pragma once

#include <cstdint>
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

class ExpertSource {
 public:
  virtual ~ExpertSource() = default;

  // The experts that the coming step of `layer` will ask for, ascending: a source may start to read them.
  virtual void hint([[maybe_unused]] int layer, [[maybe_unused]] std::span<const std::int32_t> experts) {}

  // Bytes of the weights of one expert of `layer` as kernels read them, scales included.
  virtual std::uint64_t expert_bytes(int layer) const = 0;

  // Blocks until the weights are in memory. Throws Error naming the file and the tensor. Computing thread only.
  virtual ExpertLease acquire(int layer, int expert) = 0;

 protected:
  friend class ExpertLease;
  virtual void release([[maybe_unused]] int layer, [[maybe_unused]] int expert) noexcept {}
};

ExpertLease::~ExpertLease() {
  if (source_ != nullptr) source_->release(layer_, expert_);
}

}  // namespace millrace
