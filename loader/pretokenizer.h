// Pretokenizer: cuts normalized text into the pieces that byte-pair encoding never crosses, as the `pre_tokenizer` of
// tokenizer.json says. Immutable after construction and safe to share. The only user of PCRE2.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

namespace millrace {

class Pretokenizer {
 public:
  // Understands Split (all behaviours), ByteLevel, Digits, Punctuation and Sequence of them; ByteLevel must come last,
  // since pieces are given as plain bytes. Errors, opened by `what`: Errc::bad_file for what is malformed,
  // Errc::unsupported for a type we do not know.
  Pretokenizer(const nlohmann::json& description, std::string_view what);
  ~Pretokenizer();
  Pretokenizer(Pretokenizer&&) noexcept;
  Pretokenizer& operator=(Pretokenizer&&) noexcept;

  // Calls `sink` with each piece of valid UTF-8 in order; none is empty, and each is valid during the call only.
  // Errors: Errc::bad_argument if a regular expression needs more backtracking than is bearable.
  using Sink = std::function<void(std::string_view)>;
  void split(std::string_view text, const Sink& sink) const;

 private:
  class Stage;
  void add_stages(const nlohmann::json& description, std::string_view what);
  void run(std::size_t stage, std::string_view text, const Sink& sink) const;

  std::vector<std::unique_ptr<const Stage>> stages_;
  bool ends_in_bytes_ = false;
};

}  // namespace millrace
