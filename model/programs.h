// The Programs of a model: the main one and one per multi-token-prediction layer.
#pragma once

#include <cstdint>
#include <vector>

#include "loader/stored_expert.h"
#include "model/family.h"
#include "runtime/program.h"

namespace millrace {

struct Programs {
  Program main;
  std::vector<Program> mtp;
  std::vector<Program> drafts;  // the same, to guess by: BuildContext::drafts
};

// What an ExpertStore is to hold.
std::vector<ExpertLayer> expert_layers(const ModelConfig& config);

// Builds them, which asks `weights` for everything but experts. Config, weights and experts outlive the result. With
// `hints` layers guess what the next one will ask of `experts`. Throws what the store throws.
Programs build_programs(const Family& family, const ModelConfig& config, WeightStore& weights, ExpertSource& experts,
                        std::int64_t context, bool hints = false);

}  // namespace millrace
