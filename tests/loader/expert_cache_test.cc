#include "loader/expert_cache.h"

#include <gmock/gmock.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

#include "loader/expert_store.h"
#include "loader/uring_reader.h"
#include "ops/expert_mlp.h"
#include "tests/support/errors.h"
#include "tests/support/faulty_reader.h"
#include "tests/support/random.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::int64_t width = 64, hidden = 160, experts = 20;
constexpr int layer_count = 2, read_ahead = 2;
const std::vector<ExpertLayer> layers = {{1, "layers.1.mlp.experts", experts, width, hidden},
                                         {2, "layers.2.mlp.experts", experts, width, hidden}};

std::vector<std::uint8_t> codes(test::Random& random, std::int64_t count, std::int64_t bound = 0x7f) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(count));
  for (auto& code : out) code = static_cast<std::uint8_t>(random.below(bound));
  return out;
}

enum class Layout { fp8, bf16, f16, f32, mxfp4, merged_fp8, merged_bf16, transposed };

void add_merged(test::TensorFile& file, test::Random& random, const std::string& stem, Layout layout) {
  const std::int64_t both = experts * 2 * width * hidden, down = experts * width * hidden;
  if (layout == Layout::merged_fp8) {
    file.f8(stem + "gate_up_proj", {experts, 2 * width, hidden}, codes(random, both));
    file.f32(stem + "gate_up_proj_scale_inv", {experts, 1, 2}, random.normals(experts * 2));
    file.f8(stem + "down_proj", {experts, hidden, width}, codes(random, down));
    file.f32(stem + "down_proj_scale_inv", {experts, 2, 1}, random.normals(experts * 2));
  } else if (layout == Layout::merged_bf16) {
    file.bf16(stem + "gate_up_proj", {experts, 2 * width, hidden}, random.normals(both));
    file.bf16(stem + "down_proj", {experts, hidden, width}, random.normals(down));
  } else {
    file.f32(stem + "gate_up_proj", {experts, hidden, 2 * width}, random.normals(both));
    file.f32(stem + "down_proj", {experts, width, hidden}, random.normals(down));
  }
}

void add_single(test::TensorFile& file, test::Random& random, const std::string& name, std::vector<std::int64_t> shape,
                Layout layout) {
  const std::int64_t count = shape[0] * shape[1];
  switch (layout) {
    case Layout::fp8:
      file.f8(name, shape, codes(random, count));
      file.f32(name + "_scale_inv", {(shape[0] + 127) / 128, (shape[1] + 127) / 128}, random.normals(2));
      break;
    case Layout::bf16:
      file.bf16(name, shape, random.normals(count));
      break;
    case Layout::f16:
      file.add(name, Dtype::f16, shape, codes(random, 2 * count, 0x3c));
      break;
    case Layout::mxfp4:
      file.add(name, Dtype::u8, {shape[0], shape[1] / 2}, codes(random, count / 2, 256));
      file.add(name + "_scale", Dtype::u8, {shape[0], shape[1] / 32}, codes(random, count / 32));
      break;
    default:
      file.f32(name, shape, random.normals(count));
  }
}

test::TensorFile make_file(Layout layout, int layer) {
  test::Random random(static_cast<std::uint64_t>(layer));
  test::TensorFile file;
  const std::string stem = fmt::format("model.layers.{}.mlp.experts.", layer);
  file.add(fmt::format("odd.{}", layer), Dtype::u8, {7}, codes(random, 7));
  if (layout >= Layout::merged_fp8) {
    add_merged(file, random, stem, layout);
    return file;
  }
  for (int expert = 0; expert < experts; ++expert)
    for (const char* part : {"down", "gate", "up"})
      add_single(file, random, fmt::format("{}{}.{}_proj.weight", stem, expert, part),
                 *part == 'd' ? std::vector{hidden, width} : std::vector{width, hidden}, layout);
  return file;
}

void expect_same(const Tensor& found, const Tensor& wanted) {
  ASSERT_EQ(found.dtype(), wanted.dtype());
  ASSERT_TRUE(std::equal(found.shape().begin(), found.shape().end(), wanted.shape().begin(), wanted.shape().end()));
  EXPECT_EQ(std::memcmp(found.data(), wanted.data(), static_cast<std::size_t>(wanted.bytes())), 0);
  const std::int64_t rows = wanted.dim(0), columns = wanted.scales().columns;
  ASSERT_EQ(found.scales().columns, columns);
  for (std::int64_t row = 0; row < rows && wanted.scales(); ++row)
    EXPECT_TRUE(std::equal(found.scales().row(row), found.scales().row(row) + columns, wanted.scales().row(row)));
  ASSERT_EQ(found.scales().small_codes == nullptr, wanted.scales().small_codes == nullptr);
  if (wanted.scales().small_codes != nullptr) {
    EXPECT_EQ(std::memcmp(found.scales().small_codes, wanted.scales().small_codes,
                          static_cast<std::size_t>(rows * ((columns + 7) / 8))),
              0);
  }
  if (wanted.exponents() != nullptr) {
    EXPECT_EQ(std::memcmp(found.exponents(), wanted.exponents(), static_cast<std::size_t>(wanted.elements() / 16)), 0);
  }
}

class ExpertCacheTest : public testing::Test {
 protected:
  void write(Layout layout = Layout::fp8) {
    folder_.write("config.json", "{}");
    for (int layer = 1; layer <= layer_count; ++layer) make_file(layout, layer).write(path(layer));
  }
  std::filesystem::path path(int layer) const { return folder_.path() / fmt::format("model-{}.safetensors", layer); }
  void open(ExpertCacheOptions options = {}, Numerics numerics = Numerics::fast) {
    checkpoint_.emplace(Checkpoint::open(folder_.path()));
    WeightStore store(*checkpoint_, {.numerics = numerics});
    cache_.reset();
    images_.emplace(find_experts(store, layers), store.options());
    if (options.read_ahead == 0) options.read_ahead = read_ahead;
    if (options.bytes == 0) options.bytes = images_->slot_bytes() * (ExpertMlp::max_leases + read_ahead);
    cache_.emplace(*images_, options);
  }
  ExpertCacheOptions with_faults() {
    ExpertCacheOptions options;
    options.make_reader = [this](int most, DiskReader::Client& client) {
      return std::make_unique<test::FaultyReader>(DiskIo::threads, most, client, faults_);
    };
    return options;
  }
  // Demands some experts of a layer, each for one row.
  void demand(int layer, std::vector<std::int32_t> ids) {
    std::vector<std::int32_t> first(experts + 1);
    for (std::int32_t id : ids) first[static_cast<std::size_t>(id) + 1] = 1;
    for (std::size_t i = 0; i < experts; ++i) first[i + 1] += first[i];
    cache_->demand({.layer = layer, .rows = 1, .experts = ids, .first = first.data()});
  }
  void expect_right(int layer, int expert, ExpertSource& wanted) {
    const ExpertLease lease = cache_->acquire(layer, expert), other = wanted.acquire(layer, expert);
    expect_same(lease.weights().gate, other.weights().gate);
    expect_same(lease.weights().up, other.weights().up);
    expect_same(lease.weights().down, other.weights().down);
  }
  std::string contents(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  test::TempFolder folder_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<ExpertImages> images_;
  std::optional<ExpertCache> cache_;
  test::FaultyReader::Faults faults_;
};

TEST_F(ExpertCacheTest, EveryLayoutArrivesAsInMemory) {
  for (const Layout layout : {Layout::fp8, Layout::bf16, Layout::f16, Layout::f32, Layout::mxfp4, Layout::merged_fp8,
                              Layout::merged_bf16, Layout::transposed}) {
    write(layout);
    for (const Numerics numerics : {Numerics::fast, Numerics::f32})
      for (const DiskIo io : {DiskIo::automatic, DiskIo::threads}) {
        SCOPED_TRACE(fmt::format("layout {}, numerics {}", static_cast<int>(layout), static_cast<int>(numerics)));
        open({.io = io}, numerics);
        WeightStore store(*checkpoint_, {.numerics = numerics, .format = WeightFormat::fp8});
        ExpertStore wanted(store, layers);
        for (int round = 0; round < 2; ++round)
          for (int layer = 1; layer <= layer_count; ++layer) {
            demand(layer, {0, 3, 4, 7, 12, 13, 19});
            for (int expert : {12, 0, 3, 4, 7, 13, 19, 5}) expect_right(layer, expert, wanted);
          }
      }
  }
}

// An expert whose tensors lie together is one read of its codes and one of its scales.
TEST_F(ExpertCacheTest, ReadsAreFew) {
  write();
  open(with_faults());
  for (int layer = 1; layer <= layer_count; ++layer)
    for (int expert = 0; expert < experts; ++expert) cache_->acquire(layer, expert);
  EXPECT_EQ(cache_->stats().reads, static_cast<std::uint64_t>(layer_count * experts));
  EXPECT_LE(faults_.reads, 2 * layer_count * experts);
  EXPECT_EQ(cache_->stats().slots, static_cast<std::uint64_t>(ExpertMlp::max_leases + read_ahead));
}

TEST_F(ExpertCacheTest, KeepsWhatIsUsedOften) {
  write();
  open();
  for (int round = 0; round < 40; ++round) {
    demand(1, {1, 2, 3, 4 + round % 16});
    for (int expert : {1, 2, 3, 4 + round % 16}) cache_->acquire(1, expert);
  }
  const ExpertCacheStats stats = cache_->stats();
  EXPECT_EQ(stats.hits + stats.misses, 160u);
  EXPECT_GE(stats.hits, 117u);
  EXPECT_GT(stats.bytes_read, 0u);
  EXPECT_EQ(stats.reads, stats.misses);
  EXPECT_GT(stats.read_seconds, 0);
}

TEST_F(ExpertCacheTest, HeldExpertsStay) {
  write();
  open();
  demand(1, {0, 1, 2, 3, 4, 5, 6, 7});
  std::vector<ExpertLease> held;
  for (int expert = 0; expert < ExpertMlp::max_leases; ++expert) held.push_back(cache_->acquire(1, expert));
  const std::vector<std::byte> before(static_cast<const std::byte*>(held[0].weights().gate.data()),
                                      static_cast<const std::byte*>(held[0].weights().gate.data()) + width * hidden);
  for (int expert = 0; expert < experts; ++expert) cache_->acquire(2, expert);
  EXPECT_EQ(std::memcmp(before.data(), held[0].weights().gate.data(), before.size()), 0);
  // With all slots held there is nothing to wait for.
  for (int expert = 8; expert < 8 + read_ahead; ++expert) held.push_back(cache_->acquire(1, expert));
  EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { cache_->acquire(1, 19); }), HasSubstr("all 10 slots"));
  held.clear();
  cache_->acquire(1, 19);
}

// More experts at a time than there are slots: all come, each read once.
TEST_F(ExpertCacheTest, ManyExpertsAtATime) {
  write();
  open();
  std::vector<std::int32_t> all(experts);
  for (std::int32_t i = 0; i < experts; ++i) all[static_cast<std::size_t>(i)] = i;
  for (int round = 0; round < 3; ++round)
    for (int layer = 1; layer <= layer_count; ++layer) {
      const std::uint64_t before = cache_->stats().reads + cache_->stats().hits;
      demand(layer, all);
      for (int expert = 0; expert < experts; ++expert) cache_->acquire(layer, expert);
      EXPECT_EQ(cache_->stats().reads + cache_->stats().hits - before, static_cast<std::uint64_t>(experts));
    }
}

TEST_F(ExpertCacheTest, TryAcquireNeverReads) {
  write();
  open(with_faults());
  EXPECT_FALSE(cache_->try_acquire(1, 3));
  EXPECT_EQ(faults_.reads, 0);
  cache_->acquire(1, 3);
  EXPECT_TRUE(cache_->try_acquire(1, 3));
  for (auto [layer, expert] : {std::pair(1, 20), {1, -1}, {0, 0}, {3, 0}, {-1, 0}})
    test::error_of(Errc::bad_argument, [&, layer = layer, expert = expert] { cache_->acquire(layer, expert); });
}

TEST_F(ExpertCacheTest, TooSmallABudgetSaysHowMuchIsNeeded) {
  write();
  const std::string message = test::error_of(Errc::out_of_memory, [&] { open({.bytes = 100000}); });
  EXPECT_THAT(message, HasSubstr("an expert cache of 100000 bytes holds"));
  EXPECT_THAT(message, HasSubstr("for 10 of them"));
}

TEST_F(ExpertCacheTest, NaNCodesAreFoundWhenTheyArrive) {
  write();
  {
    const Checkpoint checkpoint = Checkpoint::open(folder_.path());
    const StoredTensor tensor = checkpoint.find("layers.2.mlp.experts.7.up_proj.weight");
    std::fstream file(path(2), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(tensor.entry->offset + 2 * hidden + 5));
    file.put('\xff');
  }
  open();
  demand(2, {6, 7});
  cache_->acquire(2, 6);
  for (int attempt = 0; attempt < 2; ++attempt)
    EXPECT_THAT(test::error_of(Errc::bad_file, [&] { cache_->acquire(2, 7); }),
                HasSubstr("experts.7.up_proj.weight: NaN code at row 2, column 5"));
  cache_->acquire(1, 7);
}

TEST_F(ExpertCacheTest, AReadErrorIsAnErrorAndTheNextReadTriesAgain) {
  write();
  open(with_faults());
  WeightStore store(*checkpoint_, {.format = WeightFormat::fp8});
  ExpertStore wanted(store, layers);
  for (const int fine : {-1, 1}) {
    const int first = fine < 0 ? 4 : 14;
    const std::vector<std::int32_t> ids = {first, first + 1, first + 2, first + 3};
    faults_.fine = fine;
    faults_.error = EIO;
    demand(1, ids);
    EXPECT_THAT(test::error_of(Errc::io,
                               [&] {
                                 for (int expert : ids) cache_->acquire(1, expert);
                               }),
                AllOf(HasSubstr("model-1.safetensors"), HasSubstr("model.layers.1.mlp.experts."),
                      HasSubstr("Input/output error")));
    faults_.error = 0;
    demand(1, ids);
    for (int expert : ids) expect_right(1, expert, wanted);
  }
}

TEST_F(ExpertCacheTest, ATruncatedFileIsAnErrorUntilItIsBack) {
  write();
  const std::string saved = contents(path(1));
  for (const DiskIo io : {DiskIo::automatic, DiskIo::threads}) {
    open({.io = io});
    cache_->acquire(1, 0);
    std::filesystem::resize_file(path(1), saved.size() / 8);
    for (int attempt = 0; attempt < 2; ++attempt) {
      demand(1, {18, 19});
      EXPECT_THAT(test::error_of(Errc::io, [&] { cache_->acquire(1, 18); }),
                  AllOf(HasSubstr("model-1.safetensors"), HasSubstr("experts.18."), HasSubstr("changed while")));
    }
    cache_->acquire(2, 5);
    std::ofstream(path(1), std::ios::binary) << saved;
    demand(1, {18, 19});
    const ExpertLease lease = cache_->acquire(1, 18);
    EXPECT_EQ(lease.weights().gate.dtype(), Dtype::f8_e4m3);
  }
}

TEST_F(ExpertCacheTest, ARemovedFileIsStillReadAndAnotherInItsPlaceIsNoticed) {
  write();
  open();
  cache_->acquire(1, 0);
  std::filesystem::rename(path(1), folder_.path() / "away");
  cache_->acquire(1, 1);
  std::filesystem::resize_file(folder_.path() / "away", 4096);
  test::error_of(Errc::io, [&] { cache_->acquire(1, 2); });
  test::error_of(Errc::io, [&] { cache_->acquire(1, 2); });  // nothing in its place
  make_file(Layout::bf16, 1).write(path(1));
  test::error_of(Errc::io, [&] { cache_->acquire(1, 2); });  // something else in its place
  make_file(Layout::fp8, 1).write(path(1));
  cache_->acquire(1, 2);
}

TEST_F(ExpertCacheTest, AFileThatIsWrittenToIsNoticed) {
  write();
  open();
  cache_->acquire(1, 0);
  const std::string saved = contents(path(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::ofstream(path(1), std::ios::binary) << saved;
  EXPECT_THAT(test::error_of(Errc::io, [&] { cache_->acquire(1, 3); }), HasSubstr("changed while it was in use"));
  cache_->acquire(1, 3);
}

// Until all reads are done, whatever they are for.
void wait_for_reads(const ExpertCache& cache, std::uint64_t reads) {
  for (int i = 0; i < 5000 && cache.stats().reads < reads; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

TEST_F(ExpertCacheTest, HintsAreReadAheadAndThenThere) {
  write();
  for (const DiskIo io : {DiskIo::automatic, DiskIo::threads}) {
    open({.io = io});
    WeightStore store(*checkpoint_, {.format = WeightFormat::fp8});
    ExpertStore wanted(store, layers);
    demand(1, {0, 1});
    cache_->hint({.layer = 2, .experts = std::vector<std::int32_t>{9, 3, 14}});
    for (int expert : {0, 1}) expect_right(1, expert, wanted);
    wait_for_reads(*cache_, 5);
    EXPECT_EQ(cache_->stats().hinted, 3u);
    demand(2, {3, 5, 14});
    for (int expert : {3, 5, 14}) expect_right(2, expert, wanted);
    const ExpertCacheStats stats = cache_->stats();
    EXPECT_EQ(stats.reads, 6u);
    EXPECT_EQ(stats.hits, 0u);
    EXPECT_EQ(stats.misses, 5u);
    EXPECT_EQ(stats.hints_used, 2u);
    demand(2, {3, 9});
    EXPECT_EQ(cache_->stats().hits, 2u);
  }
}

// Demands, hints right and wrong, at any moment of the reads before.
TEST_F(ExpertCacheTest, HintsAtAnyTime) {
  write();
  for (const DiskIo io : {DiskIo::automatic, DiskIo::threads}) {
    open({.io = io});
    WeightStore store(*checkpoint_, {.format = WeightFormat::fp8});
    ExpertStore wanted(store, layers);
    test::Random random(7);
    const auto some = [&](std::int64_t most) {
      std::vector<std::int32_t> ids;
      for (std::int32_t id = 0; id < experts; ++id)
        if (random.below(experts) < most) ids.push_back(id);
      return ids;
    };
    for (int pass = 0; pass < 300; ++pass) {
      const int layer = 1 + pass % 2;
      const std::vector<std::int32_t> ids = some(1 + random.below(experts)), hinted = some(1 + random.below(experts));
      demand(layer, ids);
      cache_->hint({.layer = 3 - layer, .experts = hinted});
      for (const std::int32_t id : ids) expect_right(layer, id, wanted);
      if (pass % 7 == 0) expect_right(3 - layer, static_cast<int>(random.below(experts)), wanted);
    }
    EXPECT_GT(cache_->stats().hints_used, 0u);
  }
}

TEST_F(ExpertCacheTest, AnErrorOfAHintIsNoneUntilTheExpertIsDemanded) {
  write();
  open(with_faults());
  WeightStore store(*checkpoint_, {.format = WeightFormat::fp8});
  ExpertStore wanted(store, layers);
  demand(1, {0});
  expect_right(1, 0, wanted);
  faults_.error = EIO;
  cache_->hint({.layer = 2, .experts = std::vector<std::int32_t>{3, 4}});
  for (int i = 0; i < 5000 && cache_->stats().hinted < 2; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  demand(2, {7});
  EXPECT_THAT(test::error_of(Errc::io, [&] { cache_->acquire(2, 7); }), HasSubstr("experts.7."));
  faults_.error = 0;
  demand(2, {3, 7});
  for (int expert : {3, 7}) expect_right(2, expert, wanted);
  expect_right(2, 4, wanted);
}

TEST_F(ExpertCacheTest, ClosedWhileReadsFail) {
  write();
  const test::TempFolder other;
  for (int layer = 1; layer <= layer_count; ++layer)
    std::filesystem::copy_file(path(layer), other.path() / path(layer).filename());
  for (int round = 0; round < 50; ++round) {
    ExpertCacheOptions options = with_faults();
    options.copies = {other.path()};
    open(options);
    faults_.error = EIO;
    demand(1, {0, 1, 2, 3, 4, 5});
    cache_.reset();
    faults_.error = 0;
  }
}

TEST_F(ExpertCacheTest, WithoutOverlapEverythingIsThereFirst) {
  write();
  open({.overlap = false});
  demand(1, {0, 3, 5});
  for (int expert : {0, 3, 5}) EXPECT_TRUE(cache_->try_acquire(1, expert));
  cache_->hint({.layer = 2, .experts = std::vector<std::int32_t>{1}});
  EXPECT_EQ(cache_->stats().hinted, 0u);
}

// Its experts would be mixed with those in memory.
TEST_F(ExpertCacheTest, AFileOfOtherValuesIsRefusedUntilTheRightOneIsBack) {
  write();
  open();
  cache_->acquire(1, 0);
  const std::string saved = contents(path(1));
  std::string other = saved;
  for (std::size_t i = saved.size() / 2; i < saved.size(); ++i) other[i] = static_cast<char>(other[i] ^ 1);
  other[saved.size() - 1] = saved[saved.size() - 1];
  for (std::size_t at = 0; at < 2; ++at) cache_->acquire(1, experts - 1 - static_cast<int>(at));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::ofstream(path(1), std::ios::binary) << other;
  for (int attempt = 0; attempt < 3; ++attempt) {
    demand(1, {3});
    EXPECT_THAT(test::error_of(Errc::io, [&] { cache_->acquire(1, 3); }), HasSubstr("changed while it was in use"));
  }
  cache_->acquire(2, 5);
  std::ofstream(path(1), std::ios::binary) << saved;
  WeightStore store(*checkpoint_, {.format = WeightFormat::fp8});
  ExpertStore wanted(store, layers);
  demand(1, {3});
  expect_right(1, 3, wanted);
}

TEST_F(ExpertCacheTest, CopiesShareTheReadsAndReplaceEachOther) {
  write();
  const test::TempFolder other;
  test::error_of(Errc::not_found, [&] { open({.copies = {other.path()}}); });
  make_file(Layout::bf16, 1).write(other.path() / "model-1.safetensors");
  EXPECT_THAT(test::error_of(Errc::bad_file, [&] { open({.copies = {other.path()}}); }), HasSubstr("not a copy of"));
  std::filesystem::copy_file(path(1), other.path() / "model-1.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  open({.copies = {other.path()}});
  WeightStore store(*checkpoint_, {.format = WeightFormat::fp8});
  ExpertStore wanted(store, layers);
  std::vector<std::string> saved;
  for (int expert = 0; expert < 4; ++expert) expect_right(1, expert, wanted);
  for (int layer = 1; layer <= layer_count; ++layer)
    for (int expert = 0; expert < experts; ++expert) wanted.acquire(layer, expert);
  std::filesystem::resize_file(other.path() / "model-1.safetensors", 4096);
  demand(1, {10, 11, 12, 13, 14, 15, 16, 17});
  for (int expert = 10; expert < 18; ++expert) cache_->acquire(1, expert);
  for (int expert = 0; expert < experts; ++expert) cache_->acquire(2, expert);
}

}  // namespace
}  // namespace millrace
