#include "loader/routing_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>

#include "loader/atomic_file.h"
#include "loader/text_file.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::string_view title = "millrace routing trace 1";
constexpr std::int64_t max_bytes = std::int64_t{4} << 30;
constexpr std::size_t max_layers = 4096;
constexpr std::int32_t max_experts = 65536;

// Numbers of one line, apart by a blank or a colon.
class Line {
 public:
  explicit Line(std::string_view text) : text_(text) {}

  bool at_end() const { return text_.empty(); }
  // The next number and what stands before it, nothing where there is none.
  std::optional<std::int32_t> next(char separator) {
    if (!first_ && !text_.starts_with(separator)) return std::nullopt;
    if (!first_) text_.remove_prefix(1);
    first_ = false;
    std::int32_t value = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0) return std::nullopt;
    text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
    return value;
  }

 private:
  std::string_view text_;
  bool first_ = true;
};

std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

}  // namespace

RoutingTrace::RoutingTrace(std::vector<std::int32_t> experts) : experts_(std::move(experts)) {
  require(experts_.size() <= max_layers, Errc::bad_argument, "a routing trace of {} layers, expected at most {}",
          experts_.size(), max_layers);
  for (std::int32_t count : experts_)
    require(count >= 0 && count <= max_experts, Errc::bad_argument,
            "a routing trace with {} experts in a layer, expected 0 to {}", count, max_experts);
}

std::int64_t RoutingTrace::total_experts() const noexcept {
  return std::accumulate(experts_.begin(), experts_.end(), std::int64_t{0});
}

RoutingTrace::Entry RoutingTrace::operator[](std::size_t index) const noexcept {
  const Head& head = heads_[index];
  return {head.layer, head.rows, std::span(uses_).subspan(head.begin, head.end - head.begin)};
}

void RoutingTrace::add(std::int32_t layer, std::int32_t rows, std::span<const ExpertUse> uses) {
  require(layer >= 0 && layer < std::ssize(experts_) && rows >= 1, Errc::bad_argument,
          "a routing trace of {} layers: layer {}, {} rows", experts_.size(), layer, rows);
  std::int32_t last = -1;
  for (const ExpertUse& use : uses) {
    require(use.expert > last && use.expert < experts_[static_cast<std::size_t>(layer)] && use.rows >= 1 &&
                use.rows <= rows,
            Errc::bad_argument, "a routing trace: expert {} for {} of {} rows, after expert {} of {}", use.expert,
            use.rows, rows, last, experts_[static_cast<std::size_t>(layer)]);
    last = use.expert;
  }
  heads_.push_back({layer, rows, uses_.size(), uses_.size() + uses.size()});
  uses_.insert(uses_.end(), uses.begin(), uses.end());
}

RoutingTrace RoutingTrace::read(const std::filesystem::path& path) {
  const std::string contents = read_text_file(path, max_bytes);
  std::string_view text = contents;
  require(take_line(text) == title, Errc::bad_file, "{}: the first line is not \"{}\"", path.string(), title);
  std::vector<std::int32_t> experts;
  for (Line line(take_line(text)); !line.at_end();) {
    const auto count = line.next(' ');
    require(count && experts.size() < max_layers && *count <= max_experts, Errc::bad_file,
            "{}: line 2 does not list the experts of each layer", path.string());
    experts.push_back(*count);
  }
  RoutingTrace trace(std::move(experts));
  std::vector<ExpertUse> uses;
  for (int number = 3; !text.empty(); ++number) {
    Line line(take_line(text));
    const auto layer = line.next(' '), rows = line.next(' ');
    bool good = layer && rows;
    for (uses.clear(); good && !line.at_end();) {
      const auto expert = line.next(' '), count = line.next(':');
      good = expert && count;
      if (good) uses.push_back({*expert, *count});
    }
    require(good, Errc::bad_file, "{}: line {} is not LAYER ROWS EXPERT:ROWS ...", path.string(), number);
    try {
      trace.add(*layer, *rows, uses);
    } catch (const Error& error) {
      fail(Errc::bad_file, "{}: line {}: {}", path.string(), number, error.what());
    }
  }
  return trace;
}

void RoutingTrace::write(const std::filesystem::path& path) const {
  AtomicFile file(path);
  fmt::memory_buffer text;
  const auto flush = [&] {
    file.write(std::as_bytes(std::span(text.data(), text.size())));
    text.clear();
  };
  const auto out = fmt::appender(text);
  fmt::format_to(out, "{}\n{}\n", title, fmt::join(experts_, " "));
  for (std::size_t index = 0; index < size(); ++index) {
    const Entry entry = (*this)[index];
    fmt::format_to(out, "{} {}", entry.layer, entry.rows);
    for (const ExpertUse& use : entry.uses) fmt::format_to(out, " {}:{}", use.expert, use.rows);
    text.push_back('\n');
    if (text.size() > 65536) flush();
  }
  flush();
  file.finish();
}

}  // namespace millrace
