// Any bytes as a safetensors file: an Error or a file whose every tensor can be read, never a crash.
#include "loader/safetensors.h"
#include "runtime/error.h"
#include "tests/fuzz/temporary_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const millrace::fuzz::TemporaryFile file("model.safetensors");
  file.write(data, size);
  try {
    const millrace::SafetensorsFile opened(file.path());
    for (const millrace::TensorEntry& entry : opened.entries()) static_cast<void>(opened.read(entry));
  } catch (const millrace::Error&) {
  }
  return 0;
}
