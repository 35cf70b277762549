// Bpe: byte-level byte-pair encoding of one piece of text, on bytes rather than on the letters of the byte alphabet.
// Immutable after construction and safe to share.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "loader/vocabulary.h"

namespace millrace {

struct BpeOptions {
  bool ignore_merges = false;          // a piece that is a token as a whole needs no merges to become it
  std::optional<std::string> unknown;  // the token of bytes that are not in the vocabulary
  bool fuse_unknown = false;           // one of those for a run of such bytes
};

class Bpe {
 public:
  using Merge = std::pair<std::string, std::string>;

  // `merges` from first to last, in the letters of the byte alphabet. Errors: Errc::bad_file, opened by `what`, for a
  // merge of or into a token that is not in the vocabulary.
  Bpe(const Vocabulary& vocabulary, std::span<const Merge> merges, const BpeOptions& options, std::string_view what);

  // Appends the ids of `piece`: the pair of lowest rank merges first, of equals the leftmost. A byte that is not in the
  // vocabulary becomes the unknown token; without one it vanishes. Takes n log n steps for n bytes.
  void encode(std::string_view piece, std::vector<std::int32_t>& ids) const;

  // Appends the ids of the single bytes of `piece`.
  void encode_bytes(std::string_view piece, std::vector<std::int32_t>& ids) const;

 private:
  struct Target {
    std::int32_t rank = 0;
    std::int32_t id = 0;
  };
  struct PairHash {
    std::size_t operator()(std::uint64_t pair) const noexcept;
  };
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
  };
  class Word;

  std::array<std::int32_t, 256> byte_ids_;  // -1 = not in the vocabulary
  std::int32_t unknown_ = -1;
  bool fuse_unknown_ = false;
  std::unordered_map<std::uint64_t, Target, PairHash> merges_;
  std::unordered_map<std::string, std::int32_t, TextHash, std::equal_to<>> whole_;  // with ignore_merges: bytes -> id
};

}  // namespace millrace
