#include "model/synthetic.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>
#include <vector>

#include "loader/atomic_file.h"
#include "loader/shard_plan.h"
#include "model/synthetic_tensors.h"
#include "model/synthetic_values.h"
#include "runtime/error.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr int max_mtp_layers = 16;
constexpr std::uint64_t bytes_per_header_entry = 256;  // more than a tensor takes in headers and index together

// What is to be written where.
struct Plan {
  std::vector<Shard> shards;
  std::map<std::string, SyntheticTensor, std::less<>> tensors;  // by name
  std::uint64_t bytes = 0;                                      // of all data
};

void add(Plan& plan, const std::vector<SyntheticTensor>& tensors, std::vector<Shard> shards) {
  for (const SyntheticTensor& tensor : tensors) plan.tensors.emplace(tensor.name, tensor);
  for (Shard& shard : shards) {
    plan.bytes += shard.bytes;
    plan.shards.push_back(std::move(shard));
  }
}

Plan plan_of(const SyntheticModel& model, const SyntheticOptions& options) {
  require(options.mtp_layers >= 0 && options.mtp_layers <= max_mtp_layers, Errc::bad_argument,
          "{} prediction layers, expected 0 to {}", options.mtp_layers, max_mtp_layers);
  Plan plan;
  const std::vector<SyntheticTensor> main = synthetic_tensors(model);
  add(plan, main, plan_shards(std::vector<TensorHeader>(main.begin(), main.end()), options.max_shard_bytes));
  if (options.mtp_layers > 0) {
    const std::vector<SyntheticTensor> mtp = synthetic_mtp_tensors(model, options.mtp_layers);
    std::vector<Shard> shards = plan_shards(std::vector<TensorHeader>(mtp.begin(), mtp.end()), ~std::uint64_t{0});
    shards[0].file = "model_mtp.safetensors";  // the published name
    add(plan, mtp, std::move(shards));
  }
  return plan;
}

void check_folder(const fs::path& folder) {
  std::error_code failure;
  const fs::file_status status = fs::status(folder, failure);
  if (status.type() == fs::file_type::not_found) return;
  require(status.type() == fs::file_type::directory, Errc::bad_argument, "{}: is not a folder", folder.string());
  const bool empty = fs::is_empty(folder, failure);
  require(!failure, Errc::io, "{}: {}", folder.string(), failure.message());
  require(empty, Errc::bad_argument, "{}: the folder is not empty", folder.string());
}

void check_disk(const fs::path& folder, const Plan& plan, const SyntheticOptions& options) {
  const std::uint64_t needed = (options.sparse ? 0 : plan.bytes) + plan.tensors.size() * bytes_per_header_entry;
  std::error_code failure;
  const fs::path there = fs::exists(folder, failure) ? folder : fs::absolute(folder).lexically_normal().parent_path();
  const std::uint64_t free = options.free_bytes ? *options.free_bytes : fs::space(there, failure).available;
  require(!failure, Errc::io, "{}: {}", there.string(), failure.message());
  require(free >= needed, Errc::io, "{}: {:.1f} GB are to be written, but the disk has {:.1f} GB left", folder.string(),
          static_cast<double>(needed) * 1e-9, static_cast<double>(free) * 1e-9);
}

void write_text(const fs::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.finish();
}

std::string generation_text(const ModelConfig& config) {
  nlohmann::json generation = {{"do_sample", true}, {"temperature", 1.0}, {"top_p", 0.95}};
  if (!config.eos_ids.empty()) generation["eos_token_id"] = config.eos_ids;
  return generation.dump(2) + "\n";
}

// A folder that is taken back unless it was finished.
class NewFolder {
 public:
  explicit NewFolder(fs::path path) : path_(std::move(path)) {
    std::error_code failure;
    created_ = fs::create_directory(path_, failure);
    require(!failure, Errc::io, "{}: cannot be created: {}", path_.string(), failure.message());
  }
  ~NewFolder() {
    if (finished_) return;
    std::error_code ignored;
    for (const fs::path& file : files_) fs::remove(file, ignored);
    if (created_) fs::remove(path_, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  const fs::path& add(const std::string& name) { return files_.emplace_back(path_ / name); }
  void finish() noexcept { finished_ = true; }

 private:
  fs::path path_;
  bool created_ = false, finished_ = false;
  std::vector<fs::path> files_;
};

void write_shards(const Plan& plan, const SyntheticOptions& options, NewFolder& folder) {
  SyntheticValues values(options.seed);
  std::uint64_t done = 0;
  for (const Shard& shard : plan.shards) {
    SafetensorsWriter writer(folder.add(shard.file), {{"format", "pt"}}, shard.tensors);
    const auto report = [&](std::uint64_t bytes) {
      done += bytes;
      if (options.progress) options.progress(done, plan.bytes);
    };
    for (const TensorHeader& tensor : shard.tensors) {
      if (options.sparse) {
        const std::uint64_t bytes = data_bytes(tensor, shard.file);
        writer.write_hole(bytes);
        report(bytes);
        continue;
      }
      values.generate(plan.tensors.find(tensor.name)->second, [&](std::span<const std::byte> data) {
        writer.write(data);
        report(data.size());
      });
    }
    writer.finish();
  }
}

}  // namespace

std::uint64_t synthetic_bytes(const SyntheticModel& model, const SyntheticOptions& options) {
  return plan_of(model, options).bytes;
}

void write_synthetic(const SyntheticModel& model, const std::filesystem::path& path, const SyntheticOptions& options) {
  const fs::path folder = path.has_filename() ? path : path.parent_path();  // "DIR/" is DIR
  const Plan plan = plan_of(model, options);
  check_folder(folder);
  check_disk(folder, plan, options);
  NewFolder written(folder);
  write_shards(plan, options, written);
  write_text(written.add("model.safetensors.index.json"), index_text(plan.shards));
  write_text(written.add("generation_config.json"), generation_text(model.config));
  write_text(written.add("config.json"), model.config_text);
  written.finish();
}

}  // namespace millrace
