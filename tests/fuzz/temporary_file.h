// A file of the fuzzer's own, for parsers that read from disk; removed with its folder at the end.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/temp_folder.h"

namespace millrace::fuzz {

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name) : name_(name) {}

  const std::filesystem::path& folder() const { return folder_.path(); }
  std::filesystem::path path() const { return folder() / name_; }

  void write(const std::uint8_t* data, std::size_t size) const {
    folder_.write(name_, std::string_view(reinterpret_cast<const char*>(data), size));
  }

 private:
  test::TempFolder folder_;
  std::string name_;
};

}  // namespace millrace::fuzz
