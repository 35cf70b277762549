#include "loader/json.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "loader/text_file.h"
#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;

// What the library says about its input, made fit for one line: it quotes bytes of the file, of any value and length.
std::string printable(std::string_view message) {
  constexpr std::size_t longest = 240;
  if (const std::size_t name = message.find("] "); message.starts_with('[') && name != std::string_view::npos)
    message.remove_prefix(name + 2);
  std::string line(message.substr(0, longest));
  for (char& c : line)
    if (c < ' ' || c > '~') c = '?';
  if (message.size() > longest) line += "...";
  return line;
}

// Builds the value from the parser's events; the parser and this keep their nesting on the heap.
class Builder final : public nlohmann::json_sax<json> {
 public:
  Builder(std::string_view what, const JsonLimits& limits) : what_(what), limits_(limits) {}

  json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [place, is_new] = open_.back()->get_ref<json::object_t&>().try_emplace(name);
    require(is_new || !limits_.unique_keys, Errc::bad_file, "{}: the key \"{}\" appears twice in one object", what_,
            printable(name));
    member_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    fail(Errc::bad_file, "{}: not valid JSON: {}", what_, printable(error.what()));
  }

 private:
  template <class Value>
  bool add(Value&& value) {
    place(json(std::forward<Value>(value)));
    return true;
  }

  bool open(json&& container) {
    require(static_cast<int>(open_.size()) < limits_.max_depth, Errc::bad_file,
            "{}: not acceptable JSON: nested more than {} levels deep", what_, limits_.max_depth);
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  json* place(json&& value) {
    json* target = &root_;
    if (!open_.empty() && open_.back()->is_array()) {
      open_.back()->push_back(nullptr);
      target = &open_.back()->back();
    } else if (!open_.empty()) {
      target = member_;
    }
    *target = std::move(value);
    return target;
  }

  std::string_view what_;
  const JsonLimits& limits_;
  json root_;
  std::vector<json*> open_;  // the arrays and objects around the current place, outermost first
  json* member_ = nullptr;   // the value of the last key
};

}  // namespace

json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  // The library takes a NUL for the end of its input, whatever follows.
  const std::size_t nul = text.find('\0');
  require(nul == std::string_view::npos, Errc::bad_file, "{}: not valid JSON: a NUL byte at offset {}", what, nul);
  Builder builder(what, limits);
  json::sax_parse(text, &builder);
  return builder.take();
}

json parse_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(read_text_file(path, limits.max_bytes), path.string(), limits);
}

}  // namespace millrace
