// Any bytes as config.json: an Error or a configuration, never a crash.
#include <string_view>

#include "model/family.h"
#include "runtime/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    static_cast<void>(millrace::family_of(text, "config.json").parse_config(text, "config.json"));
  } catch (const millrace::Error&) {
  }
  return 0;
}
