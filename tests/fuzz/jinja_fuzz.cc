// A template, a zero byte, and messages in JSON: a rendering or an Error, in bounded time and memory, never a crash.
#include <string_view>

#include "loader/chat_template.h"
#include "runtime/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = input.find('\0');
  const std::string_view messages = zero == std::string_view::npos ? "[]" : input.substr(zero + 1);
  millrace::ChatRequest request{.messages = std::string(messages), .variables = R"({"x": [1, 2.5, "y", null]})"};
  request.now = std::tm{};
  try {
    const auto chat = millrace::ChatTemplate::parse(input.substr(0, zero), "fuzz", {{"bos_token", "<s>"}});
    static_cast<void>(chat.render(request).text());
  } catch (const millrace::Error&) {
  }
  return 0;
}
