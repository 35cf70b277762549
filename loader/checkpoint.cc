#include "loader/checkpoint.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include "loader/json.h"
#include "loader/plain_json.h"
#include "loader/sha256.h"
#include "loader/text_file.h"
#include "runtime/error.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr const char* config_name = "config.json";
constexpr const char* index_name = "model.safetensors.index.json";
constexpr const char* adapter_name = "adapter_config.json";
constexpr const char* mtp_name = "model_mtp.safetensors";
constexpr std::int64_t max_config_bytes = 16 << 20;
constexpr std::int64_t max_index_bytes = 100'000'000;

// A plain file name: an index must not lead outside its folder.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

bool is_there(const fs::path& path) {
  std::error_code failure;
  return fs::exists(path, failure);
}

// Names that PEFT and Automodel give the tensors of a LoRA adapter.
bool is_adapter_tensor(std::string_view name) {
  return name.starts_with("base_model.") || name.find(".lora_") != name.npos;
}

// Whether two tensors are the same to the last byte.
bool same_tensor(const StoredTensor& a, const StoredTensor& b) {
  if (a.entry->dtype != b.entry->dtype || a.entry->shape != b.entry->shape) return false;
  const std::span<const std::byte> left = a.file->read(*a.entry), right = b.file->read(*b.entry);
  return std::equal(left.begin(), left.end(), right.begin(), right.end());
}

// Files that several threads open at a time; each is taken once, in any order.
class OpenedFiles {
 public:
  explicit OpenedFiles(std::vector<fs::path> paths) : slots_(paths.size()) {
    for (std::size_t i = 0; i < paths.size(); ++i) slots_[i].path = std::move(paths[i]);
    const std::size_t threads =
        std::min<std::size_t>({most_threads, std::thread::hardware_concurrency(), slots_.size()});
    std::vector<std::jthread> helpers;
    try {
      for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back([this] { open_some(); });
    } catch (const std::system_error&) {  // no more threads: those that began do the work
    }
    open_some();
  }

  // Throws what opening it threw.
  std::unique_ptr<const SafetensorsFile> take(std::size_t index) {
    if (slots_[index].failure) std::rethrow_exception(slots_[index].failure);
    return std::move(slots_[index].file);
  }

 private:
  static constexpr std::size_t most_threads = 4;
  struct Slot {
    fs::path path;
    std::unique_ptr<const SafetensorsFile> file;
    std::exception_ptr failure;
  };

  void open_some() noexcept {
    for (std::size_t i; (i = next_++) < slots_.size();) open(slots_[i]);
  }
  static void open(Slot& slot) noexcept {
    try {
      slot.file = std::make_unique<const SafetensorsFile>(slot.path);
    } catch (...) {
      slot.failure = std::current_exception();
    }
  }

  std::vector<Slot> slots_;
  std::atomic<std::size_t> next_ = 0;
};

// The folder's model*.safetensors, by name.
std::set<std::string, std::less<>> shards_of(const fs::path& folder) {
  std::set<std::string, std::less<>> names;
  std::error_code failure;
  for (fs::directory_iterator entry(folder, failure), end; !failure && entry != end; entry.increment(failure)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with("model") && name.ends_with(".safetensors")) names.insert(name);
  }
  require(!failure, Errc::io, "{}: the folder cannot be read: {}", folder.string(), failure.message());
  return names;
}

}  // namespace

// model.safetensors.index.json: which file holds a tensor.
struct Checkpoint::Index {
  struct Place {
    std::string name;                   // as the index spells it
    const std::string* file = nullptr;  // one of `files`
    bool held = false;                  // the file holds it
  };
  std::string path;
  std::unordered_map<std::string, Place> places;  // by canonical name
  std::set<std::string, std::less<>> files;

  explicit Index(const fs::path& file) : path(file.string()) {
    const std::string text = read_text_file(file, max_index_bytes);
    if (!add_plain(text)) add_all(parse_json(text, path, {.unique_keys = true}));
  }

 private:
  void add_all(const nlohmann::json& json) {
    const auto map = json.is_object() ? json.find("weight_map") : json.end();
    require(json.is_object() && map != json.end() && map->is_object(), Errc::bad_file,
            "{}: the object weight_map is missing", path);
    for (const auto& [name, place] : map->items()) {
      require(place.is_string(), Errc::bad_file, "{}: weight_map gives {} something other than a file name", path,
              name);
      add(name, place.get_ref<const std::string&>());
    }
  }

  // If the index is written in the plain way of every known writer. Else nothing was added.
  bool add_plain(std::string_view text) {
    std::vector<std::pair<std::string_view, std::string_view>> map;
    int maps = 0, metadata = 0;
    PlainJson json(text);
    const bool good = json.object([&](std::string_view key) {
      std::uint64_t number = 0;
      if (key == "metadata" && ++metadata == 1)
        return json.object([&](std::string_view) { return json.number(number); });
      return key == "weight_map" && ++maps == 1 && json.object([&](std::string_view name) {
        map.emplace_back(name, std::string_view());
        return json.string(map.back().second);
      });
    });
    if (!good || !json.end() || maps == 0) return false;
    std::vector<std::string_view> names;
    for (const auto& [name, shard] : map) names.push_back(name);
    std::sort(names.begin(), names.end());
    if (std::adjacent_find(names.begin(), names.end()) != names.end()) return false;
    places.reserve(map.size());
    for (const auto& [name, shard] : map) add(name, shard);
    return true;
  }

  void add(std::string_view name, std::string_view shard) {
    require(is_plain_name(shard), Errc::bad_file,
            "{}: the index sends {} to \"{}\"; only a plain name of a file in the folder is allowed", path, name,
            shard);
    if (last_file == nullptr || *last_file != shard) last_file = &*files.emplace(shard).first;
    const auto [known, is_new] =
        places.try_emplace(canonical_name(name), Place{.name = std::string(name), .file = last_file});
    require(is_new || known->second.file == last_file, Errc::bad_file,
            "{}: the index names {} twice, in two spellings and in two files", path, name);
  }

  const std::string* last_file = nullptr;
};

Checkpoint Checkpoint::open(const fs::path& path, Shards shards) {
  Checkpoint checkpoint(path.string());
  std::error_code failure;
  const fs::file_status status = fs::status(path, failure);
  require(status.type() != fs::file_type::not_found, Errc::not_found, "{}: there is no such file or folder",
          path.string());
  require(!failure, Errc::io, "{}: {}", path.string(), failure.message());
  if (status.type() != fs::file_type::directory) {
    checkpoint.add_file(std::make_unique<const SafetensorsFile>(path), nullptr);
    return checkpoint;
  }
  require(is_there(path / config_name) || !is_there(path / adapter_name), Errc::unsupported,
          "{}: the folder holds a LoRA adapter, not a model; merge it into its base model first and open the result",
          path.string());
  checkpoint.config_text_ = read_text_file(path / config_name, max_config_bytes);
  checkpoint.config_sha256_ = sha256_hex(checkpoint.config_text_);
  checkpoint.has_config_ = true;

  std::unique_ptr<Index> index;
  if (is_there(path / index_name)) index = std::make_unique<Index>(path / index_name);
  std::set<std::string, std::less<>> names = index ? index->files : shards_of(path);
  if (is_there(path / mtp_name)) names.insert(mtp_name);
  require(!names.empty(), Errc::not_found, "{}: the folder holds no model*.safetensors", path.string());
  std::vector<fs::path> present;
  for (const std::string& name : names)
    if (!index || shards != Shards::planned || is_there(path / name)) present.push_back(path / name);
  OpenedFiles opened(present);
  std::size_t next = 0;
  for (const std::string& name : names) {
    if (next < present.size() && present[next] == path / name)
      checkpoint.add_file(opened.take(next++), index.get());
    else
      checkpoint.add_absent(path / name, *index);
  }
  if (index) checkpoint.check_index(*index);
  return checkpoint;
}

void Checkpoint::add_file(std::unique_ptr<const SafetensorsFile> opened, Index* index) {
  const SafetensorsFile& file = *files_.emplace_back(std::move(opened));
  const std::string file_name = fs::path(file.path()).filename().string();
  // By name, so that most of them lie beside the one before.
  auto hint = tensors_.end();
  for (const TensorEntry* entry : file.entries_by_name()) add_tensor(file, *entry, file_name, index, hint);
}

void Checkpoint::add_tensor(const SafetensorsFile& file, const TensorEntry& entry, const std::string& file_name,
                            Index* index, Tensors::iterator& hint) {
  std::string name = canonical_name(entry.name, &spellings_);
  if (index) {
    const auto place = index->places.find(name);
    if (place != index->places.end() && *place->second.file != file_name) return;
    if (place != index->places.end()) place->second.held = true;
    if (place == index->places.end() && index->files.contains(file_name)) unindexed_.push_back(entry.name);
  }
  // A lone file may be looked at, whatever it holds.
  require(!has_config_ || !is_adapter_tensor(entry.name), Errc::unsupported,
          "{}: tensor {} belongs to a LoRA adapter; merge the adapter into its base model first and open the result",
          file.path(), entry.name);
  const StoredTensor stored = {&file, &entry};
  const std::size_t before = tensors_.size();
  const auto place = tensors_.try_emplace(hint, std::move(name), stored);
  hint = std::next(place);
  const StoredTensor& other = place->second;
  require(tensors_.size() > before || same_tensor(stored, other), Errc::bad_file,
          "{}: tensor {} is also in {} as {}, with other values", file.path(), entry.name, other.file->path(),
          other.entry->name);
}

void Checkpoint::add_absent(const fs::path& path, Index& index) {
  if (absent_ == nullptr) absent_ = std::make_unique<std::map<std::string, TensorEntry, std::less<>>>();
  const SafetensorsFile& file = *files_.emplace_back(SafetensorsFile::absent(path));
  ++absent_files_;
  const auto has = [&](const std::string& name, const char* ending) { return index.places.contains(name + ending); };
  const std::string file_name = path.filename().string();
  for (auto& [name, place] : index.places) {
    if (*place.file != file_name) continue;
    place.held = true;
    canonical_name(place.name, &spellings_);
    TensorEntry entry;
    entry.name = place.name;
    entry.dtype = has(name, "_scale_inv")                           ? Dtype::f8_e4m3
                  : name.ends_with("_scale_inv")                    ? Dtype::f32
                  : has(name, "_scale") || name.ends_with("_scale") ? Dtype::u8
                                                                    : Dtype::bf16;
    tensors_.try_emplace(name, StoredTensor{&file, &absent_->emplace(name, std::move(entry)).first->second});
  }
}

void Checkpoint::check_index(const Index& index) const {
  const Index::Place* missing = nullptr;  // the first by name
  for (const auto& [name, place] : index.places)
    if (!place.held && (missing == nullptr || place.name < missing->name)) missing = &place;
  if (missing != nullptr)
    fail(Errc::bad_file, "{}: the index places {} in {}, which does not hold it", index.path, missing->name,
         *missing->file);
}

void Checkpoint::check_sizes() const {
  for (const auto& file : files_) file->file().check_size();
}

std::string Checkpoint::spelled(std::string_view canonical) const {
  return file_spelling(canonical, spellings_);
}

StoredTensor Checkpoint::find(std::string_view canonical) const noexcept {
  const auto found = tensors_.find(canonical);
  return found == tensors_.end() ? StoredTensor{} : found->second;
}

bool Checkpoint::holds(Dtype dtype) const noexcept {
  return std::any_of(tensors_.begin(), tensors_.end(),
                     [dtype](const auto& tensor) { return tensor.second.entry->dtype == dtype; });
}

StoredTensor Checkpoint::find_planned(std::string_view canonical, std::span<const std::int64_t> planned_shape) const {
  const StoredTensor stored = find(canonical);
  if (!stored || absent_ == nullptr || !stored.entry->shape.empty()) return stored;
  const auto absent = absent_->find(canonical);
  if (absent == absent_->end() || stored.entry != &absent->second) return stored;
  absent->second.shape.assign(planned_shape.begin(), planned_shape.end());
  absent->second.bytes = static_cast<std::uint64_t>(size_of(absent->second.dtype));
  for (std::int64_t dimension : planned_shape) absent->second.bytes *= static_cast<std::uint64_t>(dimension);
  return stored;
}

StoredTensor Checkpoint::demand(std::string_view canonical, std::span<const std::int64_t> shape) const {
  const StoredTensor stored = find_planned(canonical, shape);
  require(static_cast<bool>(stored), Errc::not_found, "{}: tensor {} is missing", path_, spelled(canonical));
  const std::vector<std::int64_t>& found = stored.entry->shape;
  require(std::equal(found.begin(), found.end(), shape.begin(), shape.end()), Errc::bad_file,
          "{}: tensor {} has the shape {}, expected {}", stored.file->path(), stored.entry->name, shape_text(found),
          shape_text(shape));
  return stored;
}

}  // namespace millrace
