#include "loader/kv_file.h"

#include <gmock/gmock.h>

#include <fstream>
#include <iterator>

#include "loader/safetensors.h"
#include "loader/safetensors_writer.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/random.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

const std::vector<LayerKvShape> layers = {{2, 6, 4, 0}, {3, 5, 7, 8}, {1, 4, 4, 1}, {1, 3, 2, 300}};
constexpr char fingerprint[] = "00112233445566778899aabbccddeeff";

// A cache of `length` rows; as many again were written behind them and taken back where the rings allow it.
KvCache filled(Dtype dtype, std::int64_t length, std::int64_t taken_back = 0) {
  test::Random random(static_cast<std::uint64_t>(length) + 1);
  KvCache cache(layers, dtype, 1000);
  for (std::int64_t rows : {length, taken_back}) {
    cache.reserve(cache.length() + rows);
    for (int layer = 0; layer < std::ssize(layers); ++layer) {
      const LayerKvShape& shape = cache.shape(layer);
      cache.write(layer, cache.length(), rows, random.normals(rows * shape.kv_heads * shape.qk_dim).data(),
                  random.normals(rows * shape.kv_heads * shape.v_dim).data());
    }
    cache.advance(rows);
  }
  cache.truncate(length);
  return cache;
}

std::string file_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Ids counting(std::int64_t count, std::int32_t from) {
  Ids ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(from + static_cast<std::int32_t>(i));
  return ids;
}

// The rows a layer of both caches holds.
void expect_same_rows(const KvCache& got, const KvCache& want) {
  ASSERT_EQ(got.length(), want.length());
  for (int layer = 0; layer < static_cast<int>(want.layers()); ++layer) {
    const LayerKvShape& shape = want.shape(layer);
    const std::int64_t first = want.first_held(layer);
    EXPECT_EQ(got.first_held(layer), first);
    const auto copy = [&](const KvCache& cache) {
      std::vector<std::byte> all;
      for (const KvCache::Part part : {KvCache::Part::keys, KvCache::Part::values})
        for (std::int64_t head = 0; head < shape.kv_heads; ++head) {
          const std::int64_t width = part == KvCache::Part::keys ? shape.qk_dim : shape.v_dim;
          std::vector<std::byte> rows(
              static_cast<std::size_t>((want.length() - first) * width * size_of(cache.dtype())));
          cache.copy_rows(layer, part, head, first, want.length(), rows.data());
          all.insert(all.end(), rows.begin(), rows.end());
        }
      return all;
    };
    EXPECT_EQ(copy(got), copy(want)) << "layer " << layer;
  }
}

class KvFile : public testing::Test {
 protected:
  std::filesystem::path path() const { return folder_.path() / "session.kv"; }

  void write(const KvCache& cache, std::int64_t tokens) const {
    write_kv_file(path(), fingerprint, counting(tokens, 100), counting(tokens, 7), tokens / 2, cache);
  }
  std::string error(Errc code = Errc::bad_file, Dtype dtype = Dtype::bf16) const {
    KvCache cache(layers, dtype, 1000);
    std::string text = test::error_of(code, [&] { read_kv_file(path(), fingerprint, cache); });
    EXPECT_EQ(cache.length(), 0);
    EXPECT_THAT(text, HasSubstr("session.kv"));
    return text;
  }
  // The file with some of its metadata and tensors replaced, its checksum not.
  void rewrite(const SafetensorsMetadata& changes, const std::vector<TensorHeader>& replaced = {}) const {
    std::vector<std::vector<std::byte>> data;
    std::vector<TensorToWrite> tensors;
    SafetensorsMetadata metadata = changes;
    {
      const SafetensorsFile file(path());
      metadata.insert(file.metadata().begin(), file.metadata().end());
      for (const TensorEntry& entry : file.entries()) {
        TensorToWrite& tensor = tensors.emplace_back();
        static_cast<TensorHeader&>(tensor) = {entry.name, entry.dtype, entry.shape};
        data.emplace_back(file.data(entry).begin(), file.data(entry).end());
        for (const TensorHeader& other : replaced) {
          if (other.name != entry.name) continue;
          static_cast<TensorHeader&>(tensor) = other;
          std::int64_t bytes = size_of(other.dtype);
          for (std::int64_t dimension : other.shape) bytes *= dimension;
          data.back().resize(static_cast<std::size_t>(bytes));
        }
      }
      for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].data = data[i];
    }
    write_safetensors(path(), metadata, std::move(tensors));
  }

  test::TempFolder folder_;
};

TEST_F(KvFile, BringsBackWhatWasSaved) {
  for (Dtype dtype : {Dtype::bf16, Dtype::f32})
    for (std::int64_t length : {0, 1, 8, 9, 23, 24, 25, 300, 700})
      for (std::int64_t taken_back : {std::int64_t{0}, std::int64_t{3}, KvCache::ring_slack}) {
        const KvCache cache = filled(dtype, length, length > 0 ? taken_back : 0);
        write(cache, length + 2);  // the last two tokens are not cached
        KvCache loaded(layers, dtype, 1000);
        const KvFileTokens tokens = read_kv_file(path(), fingerprint, loaded);
        EXPECT_EQ(tokens.tokens, counting(length + 2, 100));
        EXPECT_EQ(tokens.positions, counting(length + 2, 7));
        EXPECT_EQ(tokens.fixed, (length + 2) / 2);
        expect_same_rows(loaded, cache);
        for (std::int64_t rows = 0; rows <= length; ++rows)
          EXPECT_EQ(loaded.can_truncate(rows), cache.can_truncate(rows)) << rows;
      }
}

TEST_F(KvFile, RefusesAnyChangedByte) {
  write(filled(Dtype::bf16, 12), 12);
  std::string bytes = file_bytes(path());
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    folder_.write("session.kv", damaged);
    KvCache cache(layers, Dtype::bf16, 1000);
    try {
      read_kv_file(path(), fingerprint, cache);
      // Blanks after the header are the only bytes without meaning.
      EXPECT_EQ(bytes[at], ' ') << "byte " << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::bad_file) << error.what();
      EXPECT_EQ(cache.length(), 0);
    }
  }
  for (std::size_t size = 0; size < bytes.size(); size += 97) {
    folder_.write("session.kv", std::string_view(bytes).substr(0, size));
    error();
  }
}

TEST_F(KvFile, SaysWhatIsWrong) {
  const KvCache cache = filled(Dtype::bf16, 30);
  write(cache, 30);
  rewrite({{"format", "millrace-kv-9"}});
  EXPECT_THAT(error(), HasSubstr("format \"millrace-kv-9\", expected \"millrace-kv-2\""));
  write(cache, 30);
  rewrite({{"fingerprint", "beef"}});
  EXPECT_THAT(error(), HasSubstr(std::string("fingerprint beef, expected ") + fingerprint));
  for (const char* cached : {"-1", "", "3x", "99999999999999999999"}) {
    write(cache, 30);
    rewrite({{"cached", cached}});
    EXPECT_THAT(error(), HasSubstr(std::string("\"") + cached + "\" cached tokens, expected a number"));
  }
  write(cache, 30);
  rewrite({{"cached", "31"}});
  EXPECT_THAT(error(), HasSubstr("31 cached tokens of 30"));
  write(cache, 30);
  rewrite({{"fixed", "31"}});
  EXPECT_THAT(error(), HasSubstr("31 fixed tokens of 30"));
  write(cache, 30);
  rewrite({{"xxh64", "abc"}});
  EXPECT_THAT(error(), HasSubstr("expected abc"));
  write(cache, 30);
  EXPECT_THAT(error(Errc::bad_file, Dtype::f32), HasSubstr("\"layers.0.keys\" is BF16 [2, 30, 6], expected F32"));

  rewrite({}, {{"layers.1.keys", Dtype::bf16, {3, 7, 5}}});
  EXPECT_THAT(error(), HasSubstr("\"layers.1.keys\" holds 7 rows, expected 8 to 24"));
  write(cache, 30);
  rewrite({}, {{"layers.1.keys", Dtype::bf16, {3, 25, 5}}});
  EXPECT_THAT(error(), HasSubstr("\"layers.1.keys\" holds 25 rows, expected 8 to 24"));
  write(cache, 30);
  rewrite({}, {{"layers.1.keys", Dtype::bf16, {3, 20, 5}}});
  EXPECT_THAT(error(), HasSubstr("\"layers.1.values\" is BF16 [3, 24, 7], expected BF16 [3, 20, 7]"));
  write(cache, 30);
  rewrite({}, {{"layers.0.values", Dtype::bf16, {2, 29, 4}}});
  EXPECT_THAT(error(), HasSubstr("[2, 29, 4], expected BF16 [2, 30, 4]"));
  write(cache, 30);
  rewrite({}, {{"tokens", Dtype::i32, {30, 1}}});
  EXPECT_THAT(error(), HasSubstr("no list of tokens"));
}

TEST_F(KvFile, RefusesOtherFiles) {
  const std::vector<std::byte> data(8);
  write_safetensors(path(), {}, {{{"tokens", Dtype::i32, {2}}, data}});
  EXPECT_THAT(error(), HasSubstr("no format in the metadata"));
  KvCache cache(layers, Dtype::bf16, 1000);
  EXPECT_THAT(test::error_of(Errc::not_found, [&] { read_kv_file("/nonexistent/file", fingerprint, cache); }),
              HasSubstr("/nonexistent/file"));
  const std::vector<LayerKvShape> fewer(layers.begin(), layers.begin() + 3);
  write(filled(Dtype::bf16, 5), 5);
  KvCache other(fewer, Dtype::bf16, 1000);
  EXPECT_THAT(test::error_of(Errc::bad_file, [&] { read_kv_file(path(), fingerprint, other); }),
              HasSubstr("10 tensors, expected 8"));
}

// Made by a program of its own, from the description in kv_file.h.
TEST(KvFileFormat, ReadsWhatAnotherWriterWrote) {
  const std::vector<LayerKvShape> small = {{2, 3, 2, 0}, {1, 2, 2, 4}, {1, 1, 1, 1}};
  KvCache cache(small, Dtype::bf16, 600);
  const auto path = test::source_dir() + "/tests/fuzz/corpus/kv_file/page.kv";
  const KvFileTokens read = read_kv_file(path, "fingerprint", cache);
  EXPECT_EQ(read.tokens, counting(300, 0));
  EXPECT_EQ(read.fixed, 3);
  EXPECT_EQ(cache.length(), 260);
  EXPECT_EQ(cache.first_held(1), 240);
}

TEST_F(KvFile, RefusesMoreThanTheContext) {
  write(filled(Dtype::bf16, 30), 30);
  KvCache small(layers, Dtype::bf16, 29);
  EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { read_kv_file(path(), fingerprint, small); }),
              HasSubstr("a session of 30 tokens, the context holds 29"));
  KvCache enough(layers, Dtype::bf16, 30);
  read_kv_file(path(), fingerprint, enough);
  EXPECT_EQ(enough.length(), 30);
}

TEST_F(KvFile, AFailedWriteLeavesTheOldFile) {
  write(filled(Dtype::bf16, 5), 5);
  const std::string before = file_bytes(path());
  const KvCache cache = filled(Dtype::bf16, 9);
  EXPECT_THROW(write_kv_file(path(), fingerprint, counting(8, 0), counting(8, 0), 0, cache), Error);
  EXPECT_EQ(file_bytes(path()), before);
  EXPECT_THAT(
      test::error_of(
          Errc::io, [&] { write_kv_file("/nonexistent/file", fingerprint, counting(9, 0), counting(9, 0), 0, cache); }),
      HasSubstr("/nonexistent/file"));
}

}  // namespace
}  // namespace millrace
