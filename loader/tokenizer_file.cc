#include "loader/tokenizer_file.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "loader/json.h"
#include "loader/text_file.h"
#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;

constexpr std::int64_t largest_merges_file = std::int64_t{1} << 28;

// Qwen2TokenizerFast of the transformers library.
constexpr const char* qwen2_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// An object of a file, for typed access with messages that say where it is.
class Object {
 public:
  Object(const json& value, std::string what, std::string where)
      : value_(value), what_(std::move(what)), where_(std::move(where)) {
    require(value.is_object(), Errc::bad_file, "{}: {} must be an object, found {}", what_, where_, value.type_name());
  }

  const json* find(const char* key) const {  // null for what is missing or null
    const auto member = value_.find(key);
    return member == value_.end() || member->is_null() ? nullptr : &*member;
  }

  const json& at(const char* key) const {
    const json* member = find(key);
    require(member != nullptr, Errc::bad_file, "{}: {} has no {}", what_, where_, key);
    return *member;
  }

  bool flag(const char* key, bool fallback) const {
    const json* member = find(key);
    if (member == nullptr) return fallback;
    require(member->is_boolean(), Errc::bad_file, "{}: {} of {} must be a boolean", what_, key, where_);
    return member->get<bool>();
  }

  std::string text(const char* key) const {
    const json& member = at(key);
    require(member.is_string(), Errc::bad_file, "{}: {} of {} must be a string", what_, key, where_);
    return member.get<std::string>();
  }

  const json& array(const char* key) const {
    const json& member = at(key);
    require(member.is_array(), Errc::bad_file, "{}: {} of {} must be an array", what_, key, where_);
    return member;
  }

  Object object(const char* key) const { return {at(key), what_, std::string(key)}; }

  const json& value() const { return value_; }
  const std::string& what() const { return what_; }

 private:
  const json& value_;
  std::string what_, where_;
};

std::int64_t token_id(const json& value, std::string_view token, const std::string& what) {
  if (!value.is_number_integer() || value < 0 || value >= Vocabulary::most_ids)
    fail(Errc::bad_file, "{}: the id of {} must be a number from 0 to {}, found {}", what, in_quotes(token),
         Vocabulary::most_ids - 1, value.is_number() ? value.dump() : value.type_name());
  return value.get<std::int64_t>();
}

void add_normalizer(const Object& description, std::vector<NormalForm>& forms) {
  const std::string type = description.text("type");
  if (type == "Sequence") {
    for (const json& part : description.array("normalizers"))
      add_normalizer({part, description.what(), "normalizer"}, forms);
  } else if (type == "NFC") {
    forms.push_back(NormalForm::nfc);
  } else if (type == "NFD") {
    forms.push_back(NormalForm::nfd);
  } else if (type == "NFKC") {
    forms.push_back(NormalForm::nfkc);
  } else if (type == "NFKD") {
    forms.push_back(NormalForm::nfkd);
  } else {
    fail(Errc::unsupported, "{}: the normalizer {} is not supported", description.what(), in_quotes(type));
  }
}

Vocabulary read_vocabulary(const json& tokens, const std::string& what) {
  require(tokens.is_object(), Errc::bad_file, "{}: the vocabulary must be an object, found {}", what,
          tokens.type_name());
  Vocabulary vocabulary;
  for (const auto& [text, id] : tokens.items()) vocabulary.add_model_token(token_id(id, text, what), text, what);
  return vocabulary;
}

Bpe::Merge split_merge(std::string_view line, std::size_t index, const std::string& what) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
    fail(Errc::bad_file, "{}: merge {} must be two tokens with a space between them, found {}", what, index,
         in_quotes(line));
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

std::vector<Bpe::Merge> read_merges(const json& list, const std::string& what) {
  std::vector<Bpe::Merge> merges;
  merges.reserve(list.size());
  for (const json& entry : list) {
    if (entry.is_string()) {
      const auto& line = entry.get_ref<const std::string&>();
      if (!line.starts_with("#version")) merges.push_back(split_merge(line, merges.size(), what));
      continue;
    }
    require(entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string(), Errc::bad_file,
            "{}: merge {} must be a string or a pair of strings", what, merges.size());
    merges.emplace_back(entry[0].get<std::string>(), entry[1].get<std::string>());
  }
  return merges;
}

std::vector<Bpe::Merge> read_merges_file(const std::filesystem::path& path) {
  const std::string text = read_text_file(path, largest_merges_file);
  std::vector<Bpe::Merge> merges;
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    merges.push_back(split_merge(line, merges.size(), path.string()));
  }
  return merges;
}

Bpe read_bpe(const Object& model, const Vocabulary& vocabulary) {
  const auto unsupported = [&](bool absent, const char* option) {
    require(absent, Errc::unsupported, "{}: {} of the model is not supported", model.what(), option);
  };
  const json* dropout = model.find("dropout");
  unsupported(dropout == nullptr || *dropout == 0, "dropout");
  for (const char* option : {"continuing_subword_prefix", "end_of_word_suffix"})
    unsupported(model.find(option) == nullptr || model.text(option).empty(), option);
  unsupported(!model.flag("byte_fallback", false), "byte_fallback");
  BpeOptions options;
  options.ignore_merges = model.flag("ignore_merges", false);
  options.fuse_unknown = model.flag("fuse_unk", false);
  if (model.find("unk_token") != nullptr) options.unknown = model.text("unk_token");
  return Bpe(vocabulary, read_merges(model.array("merges"), model.what()), options, model.what());
}

AddedToken read_added_token(const Object& entry, std::int64_t id) {
  const bool special = entry.flag("special", false);
  return {.id = id,
          .content = entry.text("content"),
          .single_word = entry.flag("single_word", false),
          .lstrip = entry.flag("lstrip", false),
          .rstrip = entry.flag("rstrip", false),
          .normalized = entry.flag("normalized", !special),
          .special = special};
}

void add_added_token(AddedToken token, const std::string& what, TokenSet& tokens) {
  if (token.content.empty()) return;  // the reference ignores these as well
  tokens.vocabulary.add_added_token(token, added_token_spelling(token, tokens.normalizers), what);
  tokens.added.push_back(std::move(token));
}

// tokenizer_config.json repeats the added tokens; older files have them there only.
void add_listed_tokens(const Object& file, TokenSet& tokens) {
  if (file.find("added_tokens") == nullptr) return;
  for (const json& value : file.array("added_tokens")) {
    const Object entry(value, file.what(), "an added token");
    const std::int64_t id = token_id(entry.at("id"), entry.text("content"), file.what());
    add_added_token(read_added_token(entry, id), file.what(), tokens);
  }
}

void add_configured_tokens(const std::filesystem::path& folder, TokenSet& tokens) {
  const std::filesystem::path path = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return;
  const json document = parse_json_file(path);
  const Object config(document, path.string(), "the whole");
  if (config.find("added_tokens_decoder") == nullptr) return;
  std::set<std::string> known;
  for (const AddedToken& token : tokens.added) known.insert(token.content);
  for (const auto& [key, value] : config.object("added_tokens_decoder").value().items()) {
    std::int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    require(error == std::errc{} && end == key.data() + key.size(), Errc::bad_file,
            "{}: added_tokens_decoder: {} is no id", path.string(), in_quotes(key));
    AddedToken token = read_added_token({value, path.string(), "added token " + key}, id);
    const auto place = tokens.vocabulary.id_of(token.content);
    require(!place || *place == id, Errc::bad_file, "{}: {} has id {}, but {} in the vocabulary", path.string(),
            in_quotes(token.content), id, place.value_or(0));
    if (!known.contains(token.content)) add_added_token(std::move(token), path.string(), tokens);
  }
}

void append_template_token(const Object& processor, const std::string& name, const Vocabulary& vocabulary,
                           std::vector<std::int32_t>& ids) {
  const Object token = processor.object("special_tokens").object(name.c_str());
  for (const json& value : token.array("ids")) {
    const std::int64_t id = token_id(value, name, processor.what());
    require(vocabulary.find(id) != nullptr, Errc::bad_file, "{}: post_processor: id {} of {} is not in the vocabulary",
            processor.what(), id, in_quotes(name));
    ids.push_back(static_cast<std::int32_t>(id));
  }
}

void add_template(const Object& processor, TokenizerParts& parts) {
  std::vector<std::int32_t> before, after;
  int sequences = 0;
  for (const json& piece : processor.array("single")) {
    const Object entry(piece, processor.what(), "a piece of the post_processor's template");
    if (entry.find("SpecialToken") != nullptr) {
      append_template_token(processor, entry.object("SpecialToken").text("id"), parts.tokens.vocabulary,
                            sequences == 0 ? before : after);
    } else {
      const std::string name = entry.object("Sequence").text("id");
      require(name == "A", Errc::bad_file, "{}: post_processor: sequence {} in the template of one text",
              processor.what(), in_quotes(name));
      ++sequences;
    }
  }
  require(sequences == 1, Errc::unsupported, "{}: post_processor: the template holds the text {} times, expected once",
          processor.what(), sequences);
  parts.prefix.insert(parts.prefix.begin(), before.begin(), before.end());
  parts.suffix.insert(parts.suffix.end(), after.begin(), after.end());
}

void add_post_processor(const Object& processor, TokenizerParts& parts) {
  const std::string type = processor.text("type");
  if (type == "Sequence") {
    for (const json& part : processor.array("processors"))
      add_post_processor({part, processor.what(), "post_processor"}, parts);
  } else if (type == "TemplateProcessing") {
    add_template(processor, parts);
  } else {  // ByteLevel only corrects offsets, which we do not give
    require(type == "ByteLevel", Errc::unsupported, "{}: the post_processor {} is not supported", processor.what(),
            in_quotes(type));
  }
}

void check_decoder(const Object& decoder) {
  const std::string type = decoder.text("type");
  if (type == "Sequence") {
    const json& parts = decoder.array("decoders");
    require(parts.size() == 1, Errc::unsupported, "{}: a sequence of {} decoders is not supported", decoder.what(),
            parts.size());
    return check_decoder({parts[0], decoder.what(), "decoder"});
  }
  require(type == "ByteLevel", Errc::unsupported, "{}: the decoder {} is not supported, expected \"ByteLevel\"",
          decoder.what(), in_quotes(type));
}

TokenizerParts read_tokenizer_json(const std::filesystem::path& folder, const std::filesystem::path& path) {
  const json document = parse_json_file(path, {.unique_keys = true});
  const Object file(document, path.string(), "the whole");
  const Object model = file.object("model");
  if (model.find("type") != nullptr)
    require(model.text("type") == "BPE", Errc::unsupported, "{}: the model {} is not supported, expected \"BPE\"",
            path.string(), in_quotes(model.text("type")));
  TokenSet tokens;
  if (file.find("normalizer") != nullptr) add_normalizer(file.object("normalizer"), tokens.normalizers);
  tokens.vocabulary = read_vocabulary(model.at("vocab"), path.string());
  Bpe bpe = read_bpe(model, tokens.vocabulary);  // knows the model's own tokens only
  add_listed_tokens(file, tokens);
  add_configured_tokens(folder, tokens);

  TokenizerParts parts{.source = path.string(),
                       .tokens = std::move(tokens),
                       .bpe = std::move(bpe),
                       .pretokenizer = Pretokenizer(file.at("pre_tokenizer"), path.string()),
                       .prefix = {},
                       .suffix = {}};
  if (file.find("post_processor") != nullptr) add_post_processor(file.object("post_processor"), parts);
  check_decoder(file.object("decoder"));
  return parts;
}

// The layout of Qwen2: the class that tokenizer_config.json names implies what tokenizer.json would say.
TokenizerParts read_qwen2_files(const std::filesystem::path& folder) {
  const std::filesystem::path config_path = folder / "tokenizer_config.json", vocab_path = folder / "vocab.json";
  const json document = parse_json_file(config_path);
  const Object config(document, config_path.string(), "the whole");
  const std::string kind = config.text("tokenizer_class");
  require(kind == "Qwen2Tokenizer" || kind == "Qwen2TokenizerFast", Errc::unsupported,
          "{}: without tokenizer.json, tokenizer_class must be Qwen2Tokenizer, found {}", config_path.string(),
          in_quotes(kind));
  TokenSet tokens;
  tokens.normalizers = {NormalForm::nfc};
  tokens.vocabulary = read_vocabulary(parse_json_file(vocab_path, {.unique_keys = true}), vocab_path.string());
  const std::filesystem::path merges_path = folder / "merges.txt";
  Bpe bpe(tokens.vocabulary, read_merges_file(merges_path), {}, merges_path.string());
  add_configured_tokens(folder, tokens);
  const json split = {
      {"type", "Split"}, {"pattern", {{"Regex", qwen2_pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  const json bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", config.flag("add_prefix_space", false)}, {"use_regex", false}};
  const json sequence = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
  return {.source = vocab_path.string(),
          .tokens = std::move(tokens),
          .bpe = std::move(bpe),
          .pretokenizer = Pretokenizer(sequence, vocab_path.string()),
          .prefix = {},
          .suffix = {}};
}

}  // namespace

std::string added_token_spelling(const AddedToken& token, const std::vector<NormalForm>& normalizers) {
  std::string spelling = token.content;
  if (token.normalized)
    for (const NormalForm form : normalizers) spelling = normalize(spelling, form);
  return spelling;
}

TokenizerParts read_tokenizer(const std::filesystem::path& folder) {
  const std::filesystem::path whole = folder / "tokenizer.json";
  if (std::filesystem::exists(whole)) return read_tokenizer_json(folder, whole);
  require(std::filesystem::exists(folder / "vocab.json"), Errc::not_found,
          "{}: no tokenizer: neither tokenizer.json nor vocab.json with merges.txt", folder.string());
  return read_qwen2_files(folder);
}

}  // namespace millrace
