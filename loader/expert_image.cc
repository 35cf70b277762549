#include "loader/expert_image.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "loader/disk_file.h"
#include "loader/expert_policy.h"
#include "loader/load_linear.h"
#include "runtime/buffer.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// Ranges that are no farther apart are read together: a second read would cost more than the bytes between.
constexpr std::uint64_t most_gap = 64 << 10;

// What was read into a slot.
class SlotBytes final : public ByteSource {
 public:
  SlotBytes(std::span<const FilePiece> pieces, const std::byte* slot) : pieces_(pieces), slot_(slot) {}

  std::span<const std::byte> view(const StoredTensor& tensor, std::uint64_t begin, std::uint64_t count) const override {
    const std::uint64_t offset = tensor.entry->offset + begin;
    for (const FilePiece& piece : pieces_)
      if (piece.file == tensor.file && offset >= piece.offset && offset + count <= piece.offset + piece.least)
        return {slot_ + piece.place + (offset - piece.offset), static_cast<std::size_t>(count)};
    fail(Errc::bad_argument, "{}: bytes {}+{} were not read", title_of(tensor), begin, count);
  }
  void copy(const StoredTensor& tensor, std::uint64_t begin, std::span<std::byte> target) const override {
    std::memcpy(target.data(), view(tensor, begin, target.size()).data(), target.size());
  }

 private:
  std::span<const FilePiece> pieces_;
  const std::byte* slot_;
};

std::size_t image_bytes(std::span<const FilePiece> pieces) {
  return pieces.empty() ? 0 : pieces.back().place + pieces.back().bytes;
}

WeightOptions as_in_slots(WeightOptions options) {
  options.format = WeightFormat::fp8;
  options.resident = false;
  options.parallel = nullptr;  // the threads compute while others read
  options.progress = {};
  return options;
}

}  // namespace

ExpertImages::ExpertImages(std::vector<std::vector<StoredExpert>> layers, const WeightOptions& options)
    : options_(as_in_slots(options)), layers_(std::move(layers)) {
  for (const auto& layer : layers_) experts_.push_back(static_cast<std::int32_t>(layer.size()));
  offsets_ = expert_offsets(experts_);
  for (const auto& layer : layers_)
    for (const StoredExpert& expert : layer) add(expert);
  first_.push_back(pieces_.size());
  slot_bytes_ = round_up(slot_bytes_, DiskFile::block);
}

void ExpertImages::add(const StoredExpert& expert) {
  struct Range {
    const SafetensorsFile* file;
    std::uint64_t begin, end;
    const TensorEntry* tensor;
  };
  std::vector<Range> ranges;
  std::uint64_t room = 0;
  for (const StoredLinear* part : expert.parts()) {
    for (const TensorRange& range : ranges_of(*part)) {
      const std::uint64_t begin = range.tensor.entry->offset + range.begin;
      if (range.count > 0) ranges.push_back({range.tensor.file, begin, begin + range.count, range.tensor.entry});
    }
    const LinearRoom of_part = room_of(*part, options_);
    room += Buffer::aligned(of_part.weights) + Buffer::aligned(of_part.scales);
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return a.file != b.file ? std::less<>()(a.file, b.file) : a.begin < b.begin;
  });
  first_.push_back(pieces_.size());
  std::uint64_t place = 0;
  for (std::size_t i = 0; i < ranges.size();) {
    FilePiece piece{.file = ranges[i].file, .tensor = ranges[i].tensor, .place = place};
    std::uint64_t end = ranges[i].end;
    piece.offset = ranges[i].begin / DiskFile::block * DiskFile::block;
    for (++i; i < ranges.size() && ranges[i].file == piece.file && ranges[i].begin <= end + most_gap; ++i)
      end = std::max(end, ranges[i].end);
    piece.least = static_cast<std::size_t>(end - piece.offset);
    piece.bytes = round_up(piece.least, DiskFile::block);
    place += piece.bytes;
    pieces_.push_back(piece);
  }
  most_pieces_ = std::max(most_pieces_, pieces_.size() - first_.back());
  read_bytes_ = std::max<std::size_t>(read_bytes_, place);
  slot_bytes_ = std::max<std::size_t>(slot_bytes_, place + room);
}

std::span<const FilePiece> ExpertImages::pieces(int layer, int expert) const noexcept {
  const std::size_t at = index(layer, expert);
  return std::span(pieces_).subspan(first_[at], first_[at + 1] - first_[at]);
}

ExpertWeights ExpertImages::arrange(int layer, int expert, std::byte* slot) const {
  const StoredExpert& stored = layers_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(expert)];
  const SlotBytes source(pieces(layer, expert), slot);
  std::byte* room = slot + image_bytes(pieces(layer, expert));
  const auto take = [&](std::uint64_t bytes) {
    std::byte* taken = room;
    room += Buffer::aligned(bytes);
    return std::span(taken, static_cast<std::size_t>(bytes));
  };
  const auto arranged = [&](const StoredLinear& part) {
    const LinearRoom of_part = room_of(part, options_);
    const std::span<std::byte> weights = take(of_part.weights), scales = take(of_part.scales);
    return arrange_linear(part, options_, source, weights, scales);
  };
  ExpertWeights weights;
  weights.gate = arranged(stored.gate);
  weights.up = arranged(stored.up);
  weights.down = arranged(stored.down);
  return weights;
}

}  // namespace millrace
