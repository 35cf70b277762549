// What an ExpertCache has under way at a time, and in which order: with a reader that ends reads when the test says so.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <mutex>
#include <numeric>
#include <optional>
#include <vector>

#include "loader/expert_cache.h"
#include "loader/stored_expert.h"
#include "loader/weight_store.h"
#include "tests/support/random.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

constexpr std::int64_t width = 32, hidden = 64;
constexpr int experts = 40, read_ahead = 2;
const std::vector<ExpertLayer> layers = {{0, "layers.0.mlp.experts", experts, width, hidden},
                                         {1, "layers.1.mlp.experts", experts, width, hidden}};

class HeldReader final : public DiskReader {
 public:
  struct Held {
    std::mutex mutex;
    std::deque<DiskRead> reads;  // under way
  };

  HeldReader(DiskReader::Client& client, Held& held, HeldReader*& self) : client_(client), held_(held) { self = this; }
  ~HeldReader() override {
    while (end_first()) continue;
  }

  void start(const DiskRead& read) override {
    const std::lock_guard lock(held_.mutex);
    held_.reads.push_back(read);
  }
  const char* name() const noexcept override { return "held"; }

  // False if none is under way.
  bool end_first() {
    DiskRead read;
    {
      const std::lock_guard lock(held_.mutex);
      if (held_.reads.empty()) return false;
      read = held_.reads.front();
      held_.reads.pop_front();
    }
    const ssize_t got = pread(read.file->descriptor(), read.target, read.bytes, static_cast<off_t>(read.offset));
    client_.read_done(read, got < 0 ? errno : 0);
    return true;
  }

 private:
  DiskReader::Client& client_;
  Held& held_;
};

class ExpertCacheOrder : public testing::Test {
 protected:
  ExpertCacheOrder() {
    folder_.write("config.json", "{}");
    test::Random random(1);
    test::TensorFile file;
    for (int layer = 0; layer < 2; ++layer)
      for (int expert = 0; expert < experts; ++expert)
        for (const char* part : {"down", "gate", "up"})
          file.bf16(fmt::format("model.layers.{}.mlp.experts.{}.{}_proj.weight", layer, expert, part),
                    *part == 'd' ? std::vector{hidden, width} : std::vector{width, hidden},
                    random.normals(width * hidden));
    file.write(folder_.path() / "model.safetensors");
    checkpoint_.emplace(Checkpoint::open(folder_.path()));
    WeightStore store(*checkpoint_, {});
    images_.emplace(find_experts(store, layers), store.options());
    ExpertCacheOptions options;
    options.read_ahead = read_ahead;
    options.bytes = images_->slot_bytes() * ExpertCache::least_slots;
    options.make_reader = [this](int, DiskReader::Client& client) {
      return std::make_unique<HeldReader>(client, held_, reader_);
    };
    cache_.emplace(*images_, options);
  }

  void demand(int layer, std::vector<std::int32_t> ids) {
    std::vector<std::int32_t> first(experts + 1);
    for (std::int32_t id : ids) first[static_cast<std::size_t>(id) + 1] = 1;
    std::partial_sum(first.begin(), first.end(), first.begin());
    cache_->demand({.layer = layer, .rows = 1, .experts = ids, .first = first.data()});
  }
  bool is_part_of(const DiskRead& read, int layer, int expert) const {
    for (const FilePiece& piece : images_->pieces(layer, expert))
      if (read.offset >= piece.offset && read.offset + read.bytes <= piece.offset + piece.bytes) return true;
    return false;
  }
  // How many of the reads under way belong to each of these experts.
  std::vector<int> under_way(int layer, const std::vector<int>& ids) {
    const std::lock_guard lock(held_.mutex);
    std::vector<int> counts;
    for (const int id : ids)
      counts.push_back(static_cast<int>(std::count_if(
          held_.reads.begin(), held_.reads.end(), [&](const DiskRead& read) { return is_part_of(read, layer, id); })));
    return counts;
  }
  std::size_t all_under_way() {
    const std::lock_guard lock(held_.mutex);
    return held_.reads.size();
  }

  test::TempFolder folder_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<ExpertImages> images_;
  HeldReader::Held held_;
  HeldReader* reader_ = nullptr;
  std::optional<ExpertCache> cache_;
};

TEST_F(ExpertCacheOrder, HintsWaitUntilNothingDemandedIsUnderWay) {
  ASSERT_EQ(images_->pieces(0, 3).size(), 1u);
  demand(0, {3, 9, 20});
  cache_->hint({.layer = 1, .experts = std::vector<std::int32_t>{30, 31}});
  EXPECT_EQ(under_way(0, {3, 9, 20}), (std::vector{1, 1, 0}));
  EXPECT_EQ(under_way(1, {30, 31}), (std::vector{0, 0}));
  reader_->end_first();
  EXPECT_EQ(under_way(0, {3, 9, 20}), (std::vector{0, 1, 1}));
  reader_->end_first();
  EXPECT_EQ(under_way(1, {30, 31}), (std::vector{0, 0})) << "beside the last that is demanded";
  reader_->end_first();
  EXPECT_EQ(under_way(1, {30, 31}), (std::vector{1, 1}));
  while (reader_->end_first()) continue;
  for (const int expert : {3, 9, 20}) cache_->acquire(0, expert);
  EXPECT_EQ(cache_->stats().hinted, 2u);
}

TEST_F(ExpertCacheOrder, OnlyTheFirstReadIntoASlotIsFresh) {
  const auto slots = static_cast<int>(cache_->stats().slots);
  for (int expert = 0; expert < slots + 3; ++expert) {
    demand(0, {expert});
    ASSERT_EQ(all_under_way(), 1u);
    EXPECT_EQ(held_.reads.front().fresh, expert < slots) << expert;
    reader_->end_first();
    cache_->acquire(0, expert);
  }
}

}  // namespace
}  // namespace millrace
