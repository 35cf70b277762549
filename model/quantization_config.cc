#include "model/quantization_config.h"

#include <algorithm>

#include "runtime/error.h"

namespace millrace {
namespace {

void expect_text(const ConfigReader& config, std::string_view key, std::initializer_list<std::string_view> accepted) {
  const std::string found = config.find_text({key}).value_or("nothing");
  require(std::find(accepted.begin(), accepted.end(), found) != accepted.end(), Errc::bad_config,
          "{}: {} is \"{}\", expected \"{}\"", config.where(), key, shown(found), *accepted.begin());
}

void check_store(const ConfigReader& config) {
  const std::string store = config.find_text({"store_dtype"}).value_or("fp8");
  require(store == "fp8" || store == "bfloat16" || store == "mxfp4", Errc::bad_config,
          "{}: store_dtype is \"{}\", expected \"fp8\", \"bfloat16\" or \"mxfp4\"", config.where(), shown(store));
}

}  // namespace

void check_quantization(const ConfigReader& config) {
  check_store(config);
  const std::optional<ConfigReader> quantization = config.find_object("quantization_config");
  if (!quantization) return;
  check_store(*quantization);
  expect_text(*quantization, "quant_method", {"fp8"});
  if (quantization->has("fmt")) expect_text(*quantization, "fmt", {"e4m3", "float8_e4m3fn"});
  if (quantization->has("activation_scheme")) expect_text(*quantization, "activation_scheme", {"dynamic"});
  const auto block = quantization->find_integers("weight_block_size", {1, 1 << 20});
  require(block && *block == std::vector<std::int64_t>{128, 128}, Errc::bad_config,
          "{}: weight_block_size is not [128, 128], the only one known", quantization->where());
}

}  // namespace millrace
