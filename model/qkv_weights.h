// The weights of an attention layer's q, k and v, whether files hold them apart or fused.
//
// A fused qkv_proj (MiMo-V2.5 and later) is a concatenation of chunks, one per shard of the tensor-parallel training
// run, each with rows [Q | K | V] of its own heads and, in F8_E4M3, with a scale grid of its own whose last block may
// overhang. The number of chunks is that of the kv heads of *full* attention, for every layer; the grids of the full
// layers prove it, those of the others often fit by chance.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"
#include "runtime/tensor.h"

namespace millrace {

class Checkpoint;
class WeightStore;

enum class Projection { q, k, v };

struct ProjectionWeights {
  Tensor weight;            // (heads * dim, hidden)
  std::vector<float> bias;  // (heads * dim), or empty
};

// `name` is e.g. "layers.3.self_attn". Throws what WeightStore throws, and Error(bad_file) where both forms are there
// or the scales of a fused weight fit no number of chunks.
ProjectionWeights load_projection(WeightStore& weights, const ModelConfig& config, const std::string& name,
                                  const LayerSpec& layer, Projection which);

// The number of chunks of every fused qkv_proj of the checkpoint. Throws Error(bad_file) where none fits all of them.
std::int64_t qkv_chunks(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace millrace
