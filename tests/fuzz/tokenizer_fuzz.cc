// Any bytes as tokenizer.json: an Error or a tokenizer that encodes and decodes, never a crash.
#include "loader/tokenizer.h"
#include "runtime/error.h"
#include "tests/fuzz/temporary_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const millrace::fuzz::TemporaryFile file("tokenizer.json");
  file.write(data, size);
  try {
    const millrace::Tokenizer tokenizer = millrace::Tokenizer::open(file.folder());
    static_cast<void>(tokenizer.decode(tokenizer.encode("The fox\n\n looked up. \xc3\xa9 <|im_end|>")));
  } catch (const millrace::Error&) {
  }
  return 0;
}
