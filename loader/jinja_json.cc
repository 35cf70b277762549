#include "loader/jinja_json.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "loader/jinja_numbers.h"
#include "loader/unicode.h"
#include "runtime/error.h"

namespace millrace::jinja {
namespace {

using nlohmann::json;

// Makes the values from the parser's events, which needs no recursion. nlohmann's own value sorts keys and rounds
// large integers.
class Builder final : public nlohmann::json_sax<json> {
 public:
  Builder(Heap& heap, std::string_view what) : heap_(heap), what_(what) {}

  Value take() { return std::move(root_); }

  bool null() override { return add(Value().as_data()); }
  bool boolean(bool value) override { return add(Value::boolean(value, true)); }
  bool number_integer(number_integer_t value) override { return add(Value::integer(value, true)); }
  bool number_unsigned(number_unsigned_t value) override { return add(Value::integer(value, true)); }
  bool number_float(number_float_t value, const string_t& text) override {
    const bool is_integer = text.find_first_of(".eE") == string_t::npos;
    return add(is_integer ? parse_int(text, 10).as_data() : Value::real(value, true));
  }
  bool string(string_t& value) override { return add(heap_.text(to_text(value, data_mark))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(std::make_shared<Dict>(heap_)); }
  bool start_array(std::size_t) override { return open(nullptr); }
  bool end_object() override {
    return close(Value::object(Kind::dict, std::shared_ptr<const Dict>(std::move(open_.back().dict)), true));
  }
  bool end_array() override { return close(heap_.list(std::move(open_.back().items), true)); }

  bool key(string_t& name) override {
    open_.back().key = heap_.text(to_text(name, data_mark));
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    std::string_view message = error.what();
    message.remove_prefix(std::min(message.find("] ") + 2, message.size()));
    fail(Errc::bad_argument, "{}: not valid JSON: {}", what_, replace_invalid_utf8(message.substr(0, 240)));
  }

 private:
  struct Open {
    std::shared_ptr<Dict> dict;  // null for an array
    std::vector<Value> items;
    Value key;
  };

  bool open(std::shared_ptr<Dict> dict) {
    if (open_.size() >= deepest_nesting) throw Fault("nesting of JSON deeper than 200");
    open_.push_back({std::move(dict), {}, {}});
    return true;
  }

  bool close(Value value) {
    open_.pop_back();
    return add(std::move(value));
  }

  bool add(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().dict) {
      open_.back().dict->set(open_.back().key, std::move(value));
    } else {
      Heap::check_list(open_.back().items.size() + 1);
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  Heap& heap_;
  std::string_view what_;
  Value root_;
  std::vector<Open> open_;
};

}  // namespace

Value value_of_json(Heap& heap, std::string_view text, std::string_view what) {
  Builder builder(heap, what);
  json::sax_parse(text, &builder);
  return builder.take();
}

}  // namespace millrace::jinja
