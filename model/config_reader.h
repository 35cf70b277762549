// ConfigReader: checked access to one object of a JSON configuration. Every failure names the file, the key, what was
// found and what was expected. A key that is null counts as absent. Borrows the JSON value, which must outlive it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

struct IntegerRange {
  std::int64_t low = 1, high = 1;  // both allowed
};

struct NumberRange {
  double above = 0, most = 1;  // the first excluded, the second allowed
};

class ConfigReader {
 public:
  // Names one field may have. Where several are present they must agree; messages then name all of them.
  using Spellings = std::initializer_list<std::string_view>;

  // `where` opens every message: "config.json", or "config.json: rope_parameters". Throws bad_config if `value` is no
  // object.
  ConfigReader(const nlohmann::json& value, std::string where);

  const std::string& where() const noexcept { return where_; }
  bool has(std::string_view key) const;

  // The value, checked; none if no spelling is present. Throws Error(bad_config).
  std::optional<std::int64_t> find_integer(Spellings keys, IntegerRange range) const;
  std::optional<double> find_number(Spellings keys, NumberRange range) const;
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string> find_text(Spellings keys) const;
  std::optional<ConfigReader> find_object(std::string_view key) const;
  std::optional<std::vector<std::int64_t>> find_integers(std::string_view key, IntegerRange range) const;
  std::optional<std::vector<std::string>> find_texts(std::string_view key) const;
  // One integer or a list of them.
  std::optional<std::vector<std::int64_t>> find_one_or_more(std::string_view key, IntegerRange range) const;

  // The same where the field must be there.
  std::int64_t integer(Spellings keys, IntegerRange range) const;
  double number(Spellings keys, NumberRange range) const;

  // Keys of the object, sorted.
  std::vector<std::string> keys() const;

 private:
  const nlohmann::json* find(std::string_view key) const;
  std::int64_t to_integer(const nlohmann::json& value, std::string_view key, IntegerRange range) const;
  double to_number(const nlohmann::json& value, std::string_view key, NumberRange range) const;
  std::string to_text(const nlohmann::json& value, std::string_view key) const;
  [[noreturn]] void fail_type(const nlohmann::json& value, std::string_view key, std::string_view expected) const;
  [[noreturn]] void fail_absent(Spellings keys) const;
  template <class Read>
  auto pick(Spellings keys, Read read) const;

  const nlohmann::json* object_;
  std::string where_;
};

// `text` of a file made fit for one line of a message: short, printable ASCII.
std::string shown(std::string_view text);

}  // namespace millrace
