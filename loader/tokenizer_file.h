// Reading a checkpoint folder's tokenizer files into the parts of a Tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "loader/bpe.h"
#include "loader/pretokenizer.h"
#include "loader/unicode.h"
#include "loader/vocabulary.h"

namespace millrace {

struct TokenSet {
  std::vector<NormalForm> normalizers;  // applied in order
  Vocabulary vocabulary;                // of the model and the added tokens
  std::vector<AddedToken> added;
};

struct TokenizerParts {
  std::string source;  // names the file in messages
  TokenSet tokens;
  Bpe bpe;
  Pretokenizer pretokenizer;
  std::vector<std::int32_t> prefix, suffix;  // what the post-processor puts around a text
};

// From tokenizer.json, or from vocab.json and merges.txt in the layout of Qwen2; added tokens that only
// tokenizer_config.json lists count as well. Errors name the file: Errc::not_found for a folder without tokenizer
// files, Errc::bad_file for what is malformed or contradictory, Errc::unsupported for a kind of tokenizer we lack.
TokenizerParts read_tokenizer(const std::filesystem::path& folder);

// The text an added token is sought by and decodes to: its content, normalized if the token is.
std::string added_token_spelling(const AddedToken& token, const std::vector<NormalForm>& normalizers);

}  // namespace millrace
