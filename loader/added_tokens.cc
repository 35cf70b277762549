#include "loader/added_tokens.h"

#include <algorithm>

#include "loader/unicode.h"

namespace millrace {
namespace {

std::uint64_t edge(std::int32_t node, char c) {
  return static_cast<std::uint64_t>(node) << 8 | static_cast<unsigned char>(c);
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  const bool word_before = begin > 0 && is_word_character(last_utf8_step(text.substr(0, begin)).code_point);
  const bool word_after = end < text.size() && is_word_character(utf8_step(text.substr(end)).code_point);
  return !word_before && !word_after;
}

std::size_t space_begin(std::string_view text, std::size_t end) {
  while (end > 0) {
    const Utf8Step step = last_utf8_step(text.substr(0, end));
    if (!is_white_space(step.code_point)) break;
    end -= step.bytes;
  }
  return end;
}

std::size_t space_end(std::string_view text, std::size_t begin) {
  while (begin < text.size()) {
    const Utf8Step step = utf8_step(text.substr(begin));
    if (!is_white_space(step.code_point)) break;
    begin += step.bytes;
  }
  return begin;
}

}  // namespace

bool AddedTokenMatcher::add(std::string_view text, const Rule& rule) {
  std::int32_t node = 0;
  for (const char c : text) {
    const auto [child, is_new] = children_.try_emplace(edge(node, c), static_cast<std::int32_t>(rule_at_.size()));
    if (is_new) rule_at_.push_back(-1);
    node = child->second;
  }
  std::int32_t& place = rule_at_[static_cast<std::size_t>(node)];
  if (place >= 0) return false;
  place = static_cast<std::int32_t>(rules_.size());
  rules_.push_back(rule);
  begins_[static_cast<unsigned char>(text[0])] = true;
  return true;
}

AddedTokenMatcher::Match AddedTokenMatcher::longest_at(std::string_view text) const {
  Match best;
  std::int32_t node = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto child = children_.find(edge(node, text[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (const std::int32_t rule = rule_at_[static_cast<std::size_t>(node)]; rule >= 0) best = {i + 1, rule};
  }
  return best;
}

std::vector<TextSpan> AddedTokenMatcher::split(std::string_view text, std::span<const ByteRange> plain) const {
  std::vector<TextSpan> spans;
  std::size_t covered = 0;
  for (std::size_t i = 0; i < text.size();) {
    while (!plain.empty() && plain.front().end <= i) plain = plain.subspan(1);
    const std::size_t stop = plain.empty() ? text.size() : std::max(plain.front().begin, i);
    const bool may_begin = begins_[static_cast<unsigned char>(text[i])];
    const Match match = may_begin ? longest_at(text.substr(i, stop - i)) : Match{};
    if (match.bytes == 0) {
      ++i;
      continue;
    }
    const Rule& rule = rules_[static_cast<std::size_t>(match.rule)];
    std::size_t begin = i, end = i + match.bytes;
    i = end;
    if (rule.single_word && !stands_alone(text, begin, end)) continue;
    if (rule.lstrip) begin = std::max(space_begin(text, begin), covered);
    if (rule.rstrip) end = space_end(text, end);
    if (covered < begin) spans.push_back({.text = text.substr(covered, begin - covered)});
    if (begin < end) spans.push_back({.text = text.substr(begin, end - begin), .id = rule.id});
    covered = end;
  }
  if (covered < text.size()) spans.push_back({.text = text.substr(covered)});
  return spans;
}

}  // namespace millrace
