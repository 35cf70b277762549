#include "apps/common/input.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>

#include "apps/common/messages.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "loader/checkpoint.h"
#include "loader/tokenizer.h"
#include "runtime/error.h"
#include "runtime/sampler.h"

namespace millrace {
namespace {

constexpr std::size_t max_input_bytes = std::size_t{1} << 28;

class Descriptor {
 public:
  explicit Descriptor(const std::string& path)
      : owned_(path != "-"), value_(owned_ ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC) : STDIN_FILENO) {
    require(value_ >= 0, errno == ENOENT ? Errc::not_found : Errc::io, "{}: {}", path, std::strerror(errno));
  }
  ~Descriptor() {
    if (owned_) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const noexcept { return value_; }

 private:
  bool owned_;
  int value_;
};

}  // namespace

std::string read_input(const std::string& path) {
  const Descriptor file(path);
  const std::string name = path == "-" ? "standard input" : path;
  std::string text;
  std::array<char, 1 << 16> block;
  while (true) {
    const ssize_t count = ::read(file.value(), block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    require(count >= 0, errno == EISDIR ? Errc::bad_file : Errc::io, "{}: {}", name, std::strerror(errno));
    if (count == 0) return text;
    text.append(block.data(), static_cast<std::size_t>(count));
    require(text.size() <= max_input_bytes, Errc::bad_file, "{}: longer than {} bytes", name, max_input_bytes);
  }
}

std::vector<std::int32_t> parse_ids(std::string_view text, std::string_view what, std::int32_t least) {
  constexpr std::string_view blank = " \t\r\n,[]";
  std::vector<std::int32_t> ids;
  for (std::size_t at = text.find_first_not_of(blank); at != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(blank, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    std::int32_t id = 0;
    const auto [stop, failure] = std::from_chars(word.data(), word.data() + word.size(), id);
    require(failure == std::errc() && stop == word.data() + word.size() && id >= least, Errc::bad_argument,
            "{}: '{}' is not a token id, expected numbers like 1,2,3", what, word.substr(0, 40));
    ids.push_back(id);
    at = text.find_first_not_of(blank, end);
  }
  return ids;
}

std::string check_ids(const std::string& text) {
  try {
    parse_ids(text, "ids");
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

LogitBias parse_logit_bias(std::string_view text) {
  LogitBias bias;
  const auto [id_end, id_failure] = std::from_chars(text.data(), text.data() + text.size(), bias.id);
  const char* end = text.data() + text.size();
  bool good = id_failure == std::errc() && bias.id >= 0 && id_end != end && *id_end == '=';
  if (good) {
    const auto [value_end, value_failure] = std::from_chars(id_end + 1, end, bias.value);
    good = value_failure == std::errc() && value_end == end && bias.value < std::numeric_limits<float>::infinity();
  }
  require(good, Errc::bad_argument, "'{}', expected ID=V like 42=-1.5", text.substr(0, 40));
  return bias;
}

void PromptFlags::add_to(CLI::App& app) {
  sources_ = {
      app.add_option("TEXT", text_)->option_text(" "),
      app.add_option("--prompt", text_, "the same as TEXT alone, for one that starts with a dash")->option_text("TEXT"),
      app.add_option("--file", file_, "a file with the prompt; - is standard input")->option_text("F"),
      app.add_option("--tokens", tokens_, "the prompt as token ids")->option_text("1,2,3")->check(check_ids),
      app.add_option("--tokens-file", tokens_file_, "a file with token ids; - is standard input")->option_text("F"),
      app.add_option("--messages", messages_file_, "a file with a conversation in JSON, for the chat template")
          ->option_text("F"),
  };
  app.add_flag("--no-generation-prompt", no_generation_prompt_, "do not begin the answer")
      ->option_text(" ")
      ->needs(sources_.back());
  for (CLI::Option* option : sources_)
    for (CLI::Option* other : sources_)
      if (option != other) option->excludes(other);
}

bool PromptFlags::given() const {
  return std::any_of(sources_.begin(), sources_.end(), [](const CLI::Option* option) { return option->count() > 0; });
}

std::vector<std::int32_t> PromptFlags::read(const Engine& engine, bool begins) const {
  const auto given = [this](std::size_t index) { return sources_[index]->count() > 0; };
  std::vector<std::int32_t> ids;
  if (given(3)) {
    ids = parse_ids(tokens_, "--tokens");
  } else if (given(4)) {
    ids = parse_ids(read_input(tokens_file_), tokens_file_);
  } else if (given(0) || given(1) || given(2)) {
    ids = engine.tokenizer().encode(given(2) ? read_input(file_) : text_, {.add_special_tokens = begins});
  } else if (has_messages()) {
    ids = render_messages(engine.checkpoint().path()).encode(engine.tokenizer());
  } else {
    usage_error("TEXT", "no prompt: give a text, --file, --messages, --tokens or --tokens-file");
  }
  require(!ids.empty(), Errc::bad_argument, "the prompt is empty, expected at least one token");
  return ids;
}

bool PromptFlags::has_messages() const {
  return sources_.back()->count() > 0;
}

RenderedChat PromptFlags::render_messages(const std::filesystem::path& folder) const {
  ChatRequest request = read_chat_request(messages_file_);
  if (no_generation_prompt_) request.add_generation_prompt = false;
  return ChatTemplate::open(folder).render(request);
}

}  // namespace millrace
