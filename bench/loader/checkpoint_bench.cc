// Opening a folder of 72,192 tensors in 150 shards, as the largest models have them: headers only, in a folder that is
// made for it and removed. Data are holes.
#include "loader/checkpoint.h"

#include <benchmark/benchmark.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace millrace {
namespace {

constexpr int shards = 150, layers = 47, experts = 256;

class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / fmt::format("millrace-bench-{}", getpid())) {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "config.json") << "{}";
    std::vector<std::string> headers(shards), map;
    std::vector<std::uint64_t> bytes(shards);
    std::size_t tensor = 0;
    const std::size_t per_shard = (std::size_t{layers} * experts * 6 + shards - 1) / shards;
    for (int layer = 1; layer <= layers; ++layer)
      for (int expert = 0; expert < experts; ++expert)
        for (const char* matrix : {"gate_proj", "up_proj", "down_proj"})
          for (const bool scale : {false, true}) {
            const std::size_t shard = tensor++ / per_shard;
            const std::string name = fmt::format("model.layers.{}.mlp.experts.{}.{}.weight{}", layer, expert, matrix,
                                                 scale ? "_scale_inv" : "");
            const std::uint64_t size = scale ? 16 : 256 * 256;
            headers[shard] += fmt::format(R"({}"{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                                          headers[shard].empty() ? "" : ",", name, scale ? "F32" : "F8_E4M3",
                                          scale ? "[2,2]" : "[256,256]", bytes[shard], bytes[shard] + size);
            bytes[shard] += size;
            map.push_back(fmt::format(R"("{}":"{}")", name, file_name(shard)));
          }
    std::ofstream(path_ / "model.safetensors.index.json")
        << fmt::format(R"({{"weight_map":{{{}}}}})", fmt::join(map, ","));
    for (std::size_t shard = 0; shard < shards; ++shard) write_shard(shard, "{" + headers[shard] + "}", bytes[shard]);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  static std::string file_name(std::size_t shard) {
    return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
  }

  void write_shard(std::size_t shard, const std::string& header, std::uint64_t data_bytes) const {
    const std::filesystem::path file = path_ / file_name(shard);
    const std::uint64_t length = header.size();
    char word[8];
    std::memcpy(word, &length, sizeof word);
    std::ofstream(file, std::ios::binary)
        .write(word, sizeof word)
        .write(header.data(), static_cast<std::streamsize>(length));
    std::filesystem::resize_file(file, sizeof word + length + data_bytes);
  }

  std::filesystem::path path_;
};

void open_checkpoint(benchmark::State& state) {
  const Folder folder;
  std::size_t tensors = 0;
  for (auto _ : state) {
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    tensors = checkpoint.tensors().size();
  }
  state.counters["tensors"] = static_cast<double>(tensors);
}
BENCHMARK(open_checkpoint)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace
}  // namespace millrace
