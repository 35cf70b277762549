#include "loader/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "loader/regex_dialect.h"
#include "loader/unicode.h"
#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;

constexpr std::size_t most_stages = 16;
constexpr std::size_t longest_pattern = 16384;

// GPT-2's own, which ByteLevel applies unless it is told not to.
constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Every ASCII character that is neither letter, digit, space nor control, and Unicode's punctuation.
constexpr std::string_view punctuation_pattern = R"([\p{P}!-/:-@\[-`{-~])";

struct Range {
  std::size_t begin = 0, end = 0;
  bool match = false;
};

enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

class Regex {
 public:
  Regex(std::string_view pattern, bool literal, std::string_view what) {
    require(pattern.size() <= longest_pattern, Errc::bad_file, "{}: a pattern of {} bytes, at most {} expected", what,
            pattern.size(), longest_pattern);
    const std::string source = literal ? std::string(pattern) : pcre2_pattern(pattern, what);
    const std::uint32_t options =
        PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
    const std::unique_ptr<pcre2_compile_context, Free> context(pcre2_compile_context_create(nullptr));
    require(context != nullptr, Errc::out_of_memory, "{}: no memory for a regular expression", what);
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int error = 0;
    PCRE2_SIZE place = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(), options, &error, &place,
                              context.get()));
    require(code_ != nullptr, Errc::bad_file, "{}: the regular expression {} is wrong: {}", what, in_quotes(pattern),
            error_text(error));
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // where it fails, the interpreter serves
  }

  // Matches and what lies between them, in order, covering `text`. An empty match right after a match does not count.
  std::vector<Range> find_all(std::string_view text) const {
    const std::unique_ptr<pcre2_match_data, Free> match(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    const std::unique_ptr<pcre2_match_context, Free> context(pcre2_match_context_create(nullptr));
    require(match && context, Errc::out_of_memory, "no memory to match a regular expression");
    // Backtracking over a long run is honest work, each step of it once per character; beyond that it is a trap.
    const std::size_t limit = 10'000'000 + 16 * text.size();
    pcre2_set_match_limit(context.get(), static_cast<std::uint32_t>(std::min<std::size_t>(limit, 0xFFFFFFFF)));
    pcre2_set_heap_limit(context.get(), 1 << 20);  // KiB, of the interpreter

    std::vector<Range> ranges;
    std::size_t covered = 0, start = 0;
    std::optional<std::size_t> last_end;
    while (start <= text.size() && find(text, start, match.get(), context.get())) {
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
      const std::size_t begin = bounds[0], end = bounds[1];
      if (begin == end && last_end == end) {
        start += start < text.size() ? utf8_step(text.substr(start)).bytes : 1;
        continue;
      }
      require(begin >= covered && end >= begin, Errc::unsupported, "a regular expression matches backwards");
      if (covered < begin) ranges.push_back({covered, begin, false});
      ranges.push_back({begin, end, true});
      covered = start = end;
      last_end = end;
    }
    if (covered < text.size()) ranges.push_back({covered, text.size(), false});
    return ranges;
  }

 private:
  struct Free {
    void operator()(pcre2_code* p) const { pcre2_code_free(p); }
    void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
    void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
    void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  };

  static std::string error_text(int code) {
    PCRE2_UCHAR buffer[256] = {};
    pcre2_get_error_message(code, buffer, sizeof buffer);
    return reinterpret_cast<const char*>(buffer);
  }

  bool find(std::string_view text, std::size_t start, pcre2_match_data* match, pcre2_match_context* context) const {
    const auto run = [&](std::uint32_t options) {
      // The text is checked once, by the caller; PCRE2 would check its rest again at every match.
      return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                         options | PCRE2_NO_UTF_CHECK, match, context);
    };
    int found = run(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = run(PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) return false;
    require(found > 0, Errc::bad_argument, "the tokenizer's regular expression fails on a text of {} bytes: {}",
            text.size(), error_text(found));
    return true;
  }

  std::unique_ptr<pcre2_code, Free> code_;
};

// Joins the ranges into the pieces to keep: the five ways of `behavior`.
std::vector<Range> join(std::vector<Range> ranges, Behavior behavior) {
  if (behavior == Behavior::isolated) return ranges;
  if (behavior == Behavior::removed) {
    std::erase_if(ranges, [](const Range& range) { return range.match; });
    return ranges;
  }
  const bool backwards = behavior == Behavior::merged_with_next;
  if (backwards) std::reverse(ranges.begin(), ranges.end());
  std::vector<Range> joined;
  bool previous_match = false;
  for (const Range& range : ranges) {
    const bool joins =
        behavior == Behavior::contiguous ? range.match == previous_match : range.match && !previous_match;
    previous_match = range.match;
    if (!joins || joined.empty()) {
      joined.push_back(range);
    } else if (backwards) {
      joined.back().begin = range.begin;
    } else {
      joined.back().end = range.end;
    }
  }
  if (backwards) std::reverse(joined.begin(), joined.end());
  return joined;
}

bool flag(const json& description, const char* key, std::optional<bool> fallback, std::string_view what) {
  const auto value = description.find(key);
  const bool present = value != description.end() && !value->is_null();
  require(present ? value->is_boolean() : fallback.has_value(), Errc::bad_file,
          "{}: pre_tokenizer: {} must be a boolean", what, key);
  return present ? value->get<bool>() : *fallback;
}

std::string text_of(const json& description, const char* key, std::string_view what) {
  const auto value = description.find(key);
  require(value != description.end() && value->is_string(), Errc::bad_file, "{}: pre_tokenizer: {} must be a string",
          what, key);
  return value->get<std::string>();
}

Behavior behavior_of(const json& description, std::optional<Behavior> fallback, std::string_view what) {
  if (fallback && !description.contains("behavior")) return *fallback;
  const std::string name = text_of(description, "behavior", what);
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  fail(Errc::bad_file, "{}: pre_tokenizer: behavior {} is unknown", what, in_quotes(name));
}

}  // namespace

// A cut by a regular expression, or a space put before text that has none.
class Pretokenizer::Stage {
 public:
  Stage() = default;
  Stage(std::string_view pattern, bool literal, Behavior behavior, bool invert, std::string_view what)
      : regex_(std::in_place, pattern, literal, what), behavior_(behavior), invert_(invert) {}

  bool adds_space() const { return !regex_; }

  std::vector<Range> split(std::string_view text) const {
    std::vector<Range> ranges = regex_->find_all(text);
    if (invert_)
      for (Range& range : ranges) range.match = !range.match;
    return join(std::move(ranges), behavior_);
  }

 private:
  std::optional<Regex> regex_;
  Behavior behavior_ = Behavior::isolated;
  bool invert_ = false;
};

Pretokenizer::Pretokenizer(const json& description, std::string_view what) {
  add_stages(description, what);
  require(ends_in_bytes_, Errc::unsupported,
          "{}: pre_tokenizer: only byte-level tokenizers are supported, and it has no "
          "ByteLevel",
          what);
}

Pretokenizer::~Pretokenizer() = default;
Pretokenizer::Pretokenizer(Pretokenizer&&) noexcept = default;
Pretokenizer& Pretokenizer::operator=(Pretokenizer&&) noexcept = default;

void Pretokenizer::add_stages(const json& description, std::string_view what) {
  require(description.is_object(), Errc::bad_file, "{}: pre_tokenizer: an object expected, found {}", what,
          description.type_name());
  require(stages_.size() < most_stages, Errc::bad_file, "{}: pre_tokenizer: more than {} stages", what, most_stages);
  const std::string type = text_of(description, "type", what);
  const auto add = [&](std::string_view pattern, bool literal, Behavior behavior, bool invert) {
    stages_.push_back(std::make_unique<const Stage>(pattern, literal, behavior, invert, what));
  };
  if (type == "Sequence") {
    const auto parts = description.find("pretokenizers");
    require(parts != description.end() && parts->is_array(), Errc::bad_file,
            "{}: pre_tokenizer: pretokenizers must be an array", what);
    for (const json& part : *parts) add_stages(part, what);
    return;
  }
  require(!ends_in_bytes_, Errc::unsupported, "{}: pre_tokenizer: {} after ByteLevel is not supported", what,
          in_quotes(type));
  if (type == "Split") {
    const auto pattern = description.find("pattern");
    require(pattern != description.end() && pattern->is_object(), Errc::bad_file,
            "{}: pre_tokenizer: pattern must be an object", what);
    const bool literal = pattern->contains("String");
    add(text_of(*pattern, literal ? "String" : "Regex", what), literal, behavior_of(description, std::nullopt, what),
        flag(description, "invert", std::nullopt, what));
  } else if (type == "ByteLevel") {
    if (flag(description, "add_prefix_space", std::nullopt, what)) stages_.push_back(std::make_unique<const Stage>());
    if (flag(description, "use_regex", true, what)) add(gpt2_pattern, false, Behavior::isolated, false);
    ends_in_bytes_ = true;
  } else if (type == "Digits") {
    const bool single = flag(description, "individual_digits", std::nullopt, what);
    add("\\p{N}", false, single ? Behavior::isolated : Behavior::contiguous, false);
  } else if (type == "Punctuation") {
    add(punctuation_pattern, false, behavior_of(description, Behavior::isolated, what), false);
  } else {
    fail(Errc::unsupported, "{}: pre_tokenizer: the type {} is not supported", what, in_quotes(type));
  }
}

void Pretokenizer::split(std::string_view text, const Sink& sink) const {
  if (!text.empty()) run(0, text, sink);
}

void Pretokenizer::run(std::size_t stage, std::string_view text, const Sink& sink) const {
  if (stage == stages_.size()) return sink(text);
  if (stages_[stage]->adds_space()) {
    if (text.starts_with(' ')) return run(stage + 1, text, sink);
    return run(stage + 1, std::string(" ").append(text), sink);
  }
  for (const Range& range : stages_[stage]->split(text))
    if (range.begin < range.end) run(stage + 1, text.substr(range.begin, range.end - range.begin), sink);
}

}  // namespace millrace
