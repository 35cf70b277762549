#include "model/fingerprint.h"

#include <algorithm>
#include <array>

#include "loader/checkpoint.h"
#include "loader/sha256.h"
#include "model/engine.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t sample_bytes = 4096;

bool is_sampled(std::string_view name) {
  return name.find(".experts.") == std::string_view::npos || name.find(".experts.0.") != std::string_view::npos;
}

void add_sample(Sha256& digest, const StoredTensor& tensor) {
  std::array<char, sample_bytes> sample;
  const std::size_t count = std::min<std::size_t>(sample.size(), tensor.entry->bytes);
  const std::size_t middle = tensor.entry->offset + (tensor.entry->bytes - count) / 2;
  tensor.file->file().read(middle, std::as_writable_bytes(std::span(sample).first(count)));
  digest.add(std::string_view(sample.data(), count));
}

}  // namespace

std::string fingerprint_of(const Engine& engine) {
  const Checkpoint& checkpoint = engine.checkpoint();
  Sha256 digest;
  digest.add(fmt::format("{} numerics {} router {}\n", checkpoint.config_sha256(), static_cast<int>(engine.numerics()),
                         name_of(engine.config().router.dtype)));
  for (const LayerKvShape& shape : engine.program().kv_layers())
    digest.add(fmt::format("{} heads, keys of {}, values of {}, window {}, {}\n", shape.kv_heads, shape.qk_dim,
                           shape.v_dim, shape.window, name_of(engine.kv_dtype())));
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    digest.add(fmt::format("{} {} {}\n", name, name_of(tensor.entry->dtype), shape_text(tensor.entry->shape)));
    if (is_sampled(name)) add_sample(digest, tensor);
  }
  return digest.hex();
}

}  // namespace millrace
