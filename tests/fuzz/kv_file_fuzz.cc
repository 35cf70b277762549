// Any bytes as a saved session: an Error or rows for every layer, never a crash and never half of it.
#include "loader/kv_file.h"

#include <cstdlib>

#include "runtime/error.h"
#include "tests/fuzz/temporary_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace millrace;
  static const fuzz::TemporaryFile file("session.kv");
  static const std::vector<LayerKvShape> layers = {{2, 3, 2, 0}, {1, 2, 2, 4}, {1, 1, 1, 1}};
  file.write(data, size);
  KvCache cache(layers, Dtype::bf16, 600);
  try {
    const KvFileTokens loaded = read_kv_file(file.path(), "fingerprint", cache);
    if (cache.length() > std::ssize(loaded.tokens) || loaded.tokens.size() != loaded.positions.size()) std::abort();
  } catch (const Error&) {
    if (cache.length() != 0) std::abort();
  }
  return 0;
}
