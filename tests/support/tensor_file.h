// Tensors of a test, written to a safetensors file.
#pragma once

#include <cstring>
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include "loader/safetensors_writer.h"
#include "runtime/bfloat16.h"

namespace millrace::test {

class TensorFile {
 public:
  template <class T>
  TensorFile& add(std::string name, Dtype dtype, std::vector<std::int64_t> shape, const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    TensorToWrite& tensor = tensors_.emplace_back();
    tensor.name = std::move(name);
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.data = data_.emplace_back(bytes.begin(), bytes.end());
    return *this;
  }
  TensorFile& f32(std::string name, std::vector<std::int64_t> shape, const std::vector<float>& values) {
    return add(std::move(name), Dtype::f32, std::move(shape), values);
  }
  TensorFile& bf16(std::string name, std::vector<std::int64_t> shape, const std::vector<float>& values) {
    std::vector<Bfloat16> rounded;
    for (float value : values) rounded.push_back(bf16_from_f32(value));
    return add(std::move(name), Dtype::bf16, std::move(shape), rounded);
  }
  TensorFile& f8(std::string name, std::vector<std::int64_t> shape, const std::vector<std::uint8_t>& codes) {
    return add(std::move(name), Dtype::f8_e4m3, std::move(shape), codes);
  }

  void write(const std::filesystem::path& path) const { write_safetensors(path, {{"format", "pt"}}, tensors_); }

 private:
  std::vector<TensorToWrite> tensors_;
  std::deque<std::vector<std::byte>> data_;
};

}  // namespace millrace::test
