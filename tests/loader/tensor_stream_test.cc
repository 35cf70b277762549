// Whatever is asked for, and in whatever order, the bytes are those of the files.
#include "loader/tensor_stream.h"

#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>

#include "loader/safetensors_writer.h"
#include "runtime/parallel.h"
#include "tests/support/errors.h"
#include "tests/support/random.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

class TensorStreamTest : public testing::Test {
 protected:
  // Sizes around those of pages and of the stream's pieces, all at odd places of the file.
  TensorStreamTest() {
    test::Random random(1);
    const std::size_t piece = TensorStream::least_buffer_bytes / 4;
    std::vector<TensorToWrite> tensors;
    for (std::size_t size : {std::size_t{1}, std::size_t{7}, std::size_t{4095}, std::size_t{4096}, std::size_t{4097},
                             piece - 1, piece, 3 * piece + 5, 6 * piece}) {
      Bytes& data = contents_.emplace_back(size);
      for (std::byte& byte : data) byte = static_cast<std::byte>(random.below(256));
      TensorToWrite& tensor = tensors.emplace_back();
      tensor.name = "t" + std::to_string(tensors.size() - 1);
      tensor.dtype = Dtype::u8;
      tensor.shape = {static_cast<std::int64_t>(size)};
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].data = contents_[i];
    write_safetensors(path(), {}, tensors);
    file_ = std::make_unique<SafetensorsFile>(path());
    for (std::size_t i = 0; i < contents_.size(); ++i)
      tensors_.push_back({file_.get(), file_->find("t" + std::to_string(i))});
  }

  std::filesystem::path path() const { return folder_.path() / "model.safetensors"; }
  TensorRange whole(std::size_t index) const { return {tensors_[index], 0, contents_[index].size()}; }
  std::vector<TensorRange> all() const {
    std::vector<TensorRange> ranges;
    for (std::size_t i = 0; i < tensors_.size(); ++i) ranges.push_back(whole(i));
    return ranges;
  }
  void expect_copied(const TensorStream& stream, const TensorRange& range, std::size_t index) const {
    Bytes target(range.count);
    stream.copy(range.tensor, range.begin, target);
    EXPECT_EQ(std::memcmp(target.data(), contents_[index].data() + range.begin, target.size()), 0) << index;
  }

  test::TempFolder folder_;
  std::vector<Bytes> contents_;
  std::unique_ptr<SafetensorsFile> file_;
  std::vector<StoredTensor> tensors_;
};

TEST_F(TensorStreamTest, InTheOrderThatWasSaid) {
  const Parallel parallel(2);
  for (const Parallel* threads : {static_cast<const Parallel*>(nullptr), &parallel}) {
    const std::size_t more = threads == nullptr ? 0 : TensorStream::least_buffer_bytes + 4097;
    TensorStream stream(all(), threads, more);
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      if (i % 2 == 0) {
        expect_copied(stream, whole(i), i);
        continue;
      }
      const auto view = stream.view(tensors_[i], 0, contents_[i].size());
      EXPECT_EQ(std::memcmp(view.data(), contents_[i].data(), view.size()), 0);
      stream.drop_views();
    }
  }
}

TEST_F(TensorStreamTest, PartsOfTensorsAndNothingAtAll) {
  std::vector<TensorRange> ranges;
  for (std::size_t i = 2; i < tensors_.size(); ++i) {
    ranges.push_back({tensors_[i], 1000, contents_[i].size() - 1003});
    ranges.push_back({tensors_[i], 5, 0});
    ranges.push_back({tensors_[i], 0, 10});
  }
  const TensorStream stream(ranges, nullptr);
  for (std::size_t i = 0; i < ranges.size(); ++i) expect_copied(stream, ranges[i], 2 + i / 3);
}

// More reads than may be under way, of sizes that come round the buffer at ever other places.
TEST_F(TensorStreamTest, ManyPartsOfAllSizes) {
  test::Random random(2);
  std::vector<TensorRange> ranges;
  std::vector<std::size_t> of;
  for (int i = 0; i < 400; ++i) {
    const std::size_t index = i % 3 == 0 ? 2 + static_cast<std::size_t>(random.below(3)) : contents_.size() - 1;
    const auto size = static_cast<std::int64_t>(contents_[index].size());
    const std::int64_t begin = random.below(size), most = i % 16 == 0 ? size : std::int64_t{1} << (i % 20);
    ranges.push_back({tensors_[index], static_cast<std::uint64_t>(begin),
                      static_cast<std::uint64_t>(1 + random.below(std::min(most, size - begin)))});
    of.push_back(index);
  }
  const TensorStream stream(ranges, nullptr);
  for (std::size_t i = 0; i < ranges.size(); ++i) expect_copied(stream, ranges[i], of[i]);
}

TEST_F(TensorStreamTest, AnotherOrderIsServedToo) {
  const TensorStream stream(all(), nullptr);
  for (std::size_t i = tensors_.size(); i-- > 0;) expect_copied(stream, whole(i), i);
  for (std::size_t i = 0; i < tensors_.size(); ++i) expect_copied(stream, whole(i), i);
}

TEST_F(TensorStreamTest, AStreamThatNobodyTakesFromEnds) {
  const TensorStream stream(all(), nullptr);
  const TensorStream empty({}, nullptr);
  expect_copied(empty, whole(3), 3);
}

TEST_F(TensorStreamTest, AFileThatShrankIsAnError) {
  std::filesystem::resize_file(path(), file_->file().bytes() - contents_.back().size() / 2);
  const TensorStream stream(all(), nullptr);
  const std::string message = test::error_of(Errc::io, [&] {
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      Bytes target(contents_[i].size());
      stream.copy(tensors_[i], 0, target);
    }
  });
  EXPECT_THAT(message, HasSubstr("model.safetensors: cannot be read: the file ends within it (tensor t"));
}

}  // namespace
}  // namespace millrace
