// RoutingTrace: which experts the passes of a run asked for, layer by layer, as a text file:
//   millrace routing trace 1
//   16 32 32            experts of each layer, 0 for a dense one
//   3 2 5:1 17:2        layer 3 in a pass of 2 rows: expert 5 for one of them, expert 17 for both
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace millrace {

struct ExpertUse {
  std::int32_t expert = 0;
  std::int32_t rows = 0;  // of the pass, at least 1

  bool operator==(const ExpertUse&) const = default;
};

class RoutingTrace {
 public:
  // One layer of one pass.
  struct Entry {
    std::int32_t layer = 0;
    std::int32_t rows = 0;
    std::span<const ExpertUse> uses;  // ascending ids
  };

  explicit RoutingTrace(std::vector<std::int32_t> experts);

  // Reads a file. Throws Error(bad_file) naming file and line, and what read_text_file throws.
  static RoutingTrace read(const std::filesystem::path& path);
  // Throws Error(io).
  void write(const std::filesystem::path& path) const;

  // Throws Error(bad_argument) for a layer or an expert that is not there, experts out of order, or rows outside
  // 1 to `rows`.
  void add(std::int32_t layer, std::int32_t rows, std::span<const ExpertUse> uses);

  std::span<const std::int32_t> experts() const noexcept { return experts_; }  // of each layer
  std::int64_t total_experts() const noexcept;
  std::size_t size() const noexcept { return heads_.size(); }
  Entry operator[](std::size_t index) const noexcept;

 private:
  struct Head {
    std::int32_t layer, rows;
    std::size_t begin, end;  // in uses_
  };
  std::vector<std::int32_t> experts_;
  std::vector<Head> heads_;
  std::vector<ExpertUse> uses_;
};

}  // namespace millrace
