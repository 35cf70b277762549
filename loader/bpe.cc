#include "loader/bpe.h"

#include <queue>

#include "loader/byte_alphabet.h"
#include "loader/unicode.h"
#include "runtime/error.h"

namespace millrace {
namespace {

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

std::size_t Bpe::PairHash::operator()(std::uint64_t pair) const noexcept {
  pair = (pair ^ pair >> 32) * 0x9E3779B97F4A7C15;  // the golden ratio: neighbouring ids spread over the buckets
  return static_cast<std::size_t>(pair ^ pair >> 29);
}

// The symbols of one piece, linked; merging makes the left one longer and takes the right one out.
class Bpe::Word {
 public:
  Word(const Bpe& bpe, std::span<const std::int32_t> ids) : bpe_(bpe) {
    symbols_.reserve(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto place = static_cast<std::int32_t>(i);
      symbols_.push_back({.id = ids[i], .previous = place - 1, .next = i + 1 < ids.size() ? place + 1 : -1});
    }
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) offer(static_cast<std::int32_t>(i));
  }

  void merge_all() {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      Symbol& left = symbols_[static_cast<std::size_t>(best.place)];
      if (left.id < 0 || left.next < 0) continue;
      Symbol& right = symbols_[static_cast<std::size_t>(left.next)];
      if (pair_key(left.id, right.id) != best.pair) continue;  // one of the two has grown since
      left.id = best.id;
      left.next = right.next;
      right.id = -1;
      if (left.next >= 0) symbols_[static_cast<std::size_t>(left.next)].previous = best.place;
      if (left.previous >= 0) offer(left.previous);
      offer(best.place);
    }
  }

  void append_to(std::vector<std::int32_t>& ids) const {
    for (const Symbol& symbol : symbols_)
      if (symbol.id >= 0) ids.push_back(symbol.id);
  }

 private:
  struct Symbol {
    std::int32_t id = 0;  // -1 = merged into the one before
    std::int32_t previous = -1, next = -1;
  };
  struct Candidate {
    std::uint64_t pair = 0;
    std::int32_t rank = 0, place = 0, id = 0;
    bool operator<(const Candidate& other) const {  // the queue gives its largest
      return rank != other.rank ? rank > other.rank : place > other.place;
    }
  };

  void offer(std::int32_t place) {
    const Symbol& left = symbols_[static_cast<std::size_t>(place)];
    if (left.next < 0) return;
    const std::uint64_t pair = pair_key(left.id, symbols_[static_cast<std::size_t>(left.next)].id);
    const auto target = bpe_.merges_.find(pair);
    if (target != bpe_.merges_.end())
      queue_.push({.pair = pair, .rank = target->second.rank, .place = place, .id = target->second.id});
  }

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> queue_;
};

Bpe::Bpe(const Vocabulary& vocabulary, std::span<const Merge> merges, const BpeOptions& options,
         std::string_view what) {
  bool complete = true;
  for (unsigned byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = vocabulary.id_of(byte_letter(static_cast<std::uint8_t>(byte))).value_or(-1);
    complete = complete && byte_ids_[byte] >= 0;
  }
  if (options.unknown && !complete) {
    const auto unknown = vocabulary.id_of(*options.unknown);
    require(unknown.has_value(), Errc::bad_file, "{}: the unknown token {} is not in the vocabulary", what,
            in_quotes(*options.unknown));
    unknown_ = *unknown;
  }
  fuse_unknown_ = options.fuse_unknown;

  merges_.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    // Not a structured binding: the lambda could not capture it.
    const std::string& left = merges[rank].first;
    const std::string& right = merges[rank].second;
    const auto id = [&](const std::string& text) {
      const auto found = vocabulary.id_of(text);
      if (!found)
        fail(Errc::bad_file, "{}: merge {} of {} and {} needs the token {}, which does not exist", what, rank,
             in_quotes(left), in_quotes(right), in_quotes(text));
      return *found;
    };
    const std::uint64_t pair = pair_key(id(left), id(right));
    merges_.insert_or_assign(pair, Target{static_cast<std::int32_t>(rank), id(left + right)});
  }
  if (!options.ignore_merges) return;
  for (const Token& token : vocabulary.tokens())
    if (const auto bytes = bytes_of_letters(token.text); token.in_model && bytes)
      whole_.emplace(*bytes, *vocabulary.id_of(token.text));
}

void Bpe::encode(std::string_view piece, std::vector<std::int32_t>& ids) const {
  if (const auto whole = whole_.find(piece); whole != whole_.end()) {
    ids.push_back(whole->second);
    return;
  }
  std::vector<std::int32_t> bytes;
  bytes.reserve(piece.size());
  encode_bytes(piece, bytes);
  Word word(*this, bytes);
  word.merge_all();
  word.append_to(ids);
}

void Bpe::encode_bytes(std::string_view piece, std::vector<std::int32_t>& ids) const {
  bool after_unknown = false;
  for (const char c : piece) {
    const std::int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    const bool fused = id < 0 && fuse_unknown_ && after_unknown;
    if (id >= 0)
      ids.push_back(id);
    else if (unknown_ >= 0 && !fused)
      ids.push_back(unknown_);
    after_unknown = id < 0;
  }
}

}  // namespace millrace
