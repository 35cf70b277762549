// Any bytes as model.safetensors.index.json beside two good files: an Error or a checkpoint, never a crash.
#include <array>
#include <string>

#include "loader/checkpoint.h"
#include "loader/safetensors_writer.h"
#include "runtime/error.h"
#include "tests/fuzz/temporary_file.h"

namespace {

using millrace::Dtype;
using millrace::TensorToWrite;
using millrace::fuzz::TemporaryFile;

// A folder that lacks only its index.
class Folder {
 public:
  Folder() : index_("model.safetensors.index.json") {
    std::ofstream(index_.folder() / "config.json") << "{}";
    write_shard("model-1.safetensors", "model.a");
    write_shard("model-2.safetensors", "lm_head.weight");
  }
  const TemporaryFile& index() const { return index_; }

 private:
  void write_shard(const std::string& file, const std::string& own) const {
    static constexpr std::array<std::byte, 8> data = {};
    millrace::write_safetensors(
        index_.folder() / file, {},
        {TensorToWrite{{own, Dtype::f32, {2}}, data}, TensorToWrite{{"model.both", Dtype::f32, {2}}, data}});
  }

  TemporaryFile index_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  folder.index().write(data, size);
  try {
    const auto checkpoint = millrace::Checkpoint::open(folder.index().folder());
    for (const auto& [name, stored] : checkpoint.tensors()) static_cast<void>(stored.file->read(*stored.entry));
  } catch (const millrace::Error&) {
  }
  return 0;
}
