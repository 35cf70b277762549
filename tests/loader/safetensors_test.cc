#include "loader/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>

#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + data;
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const test::TempFolder folder;
  const SafetensorsFile file(folder.write(
      "a.safetensors", file_of(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},"__metadata__":{"k":"v"},)"
                               R"("a":{"dtype":"I32","shape":[],"data_offsets":[0,4]},)"
                               R"("none":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]}}   )",
                               std::string("\1\0\0\0xy", 6))));
  ASSERT_EQ(file.entries().size(), 3u);
  EXPECT_EQ(file.entries()[0].name, "a");
  EXPECT_EQ(file.entries()[1].name, "none");
  EXPECT_EQ(file.entries()[2].name, "b");
  EXPECT_EQ(file.metadata().at("k"), "v");
  const TensorEntry* b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, Dtype::u8);
  EXPECT_THAT(b->shape, ElementsAre(2));
  EXPECT_THAT(file.read(*b), ElementsAre(std::byte{'x'}, std::byte{'y'}));
  EXPECT_EQ(file.read(*file.find("none")).size(), 0u);
  EXPECT_EQ(file.find("c"), nullptr);
}

TEST(Safetensors, AFileMayHoldNothing) {
  const test::TempFolder folder;
  EXPECT_TRUE(SafetensorsFile(folder.write("a", file_of("{}", ""))).entries().empty());
}

TEST(Safetensors, RefusesBytesThatBelongToNoTensor) {
  const test::TempFolder folder;
  const auto path = folder.write("a", file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "xyz"));
  EXPECT_THAT(test::error_of(Errc::bad_file, [&] { SafetensorsFile{path}; }), HasSubstr("bytes 1 to 3"));
}

TEST(Safetensors, RefusesHeadersOfAnotherForm) {
  const test::TempFolder folder;
  for (const char* entry :
       {"1", "[]", R"({"dtype":3,"shape":[1],"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":3,"data_offsets":[0,1]})", R"({"dtype":"U8","shape":["1"],"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":[0]})", R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,2]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":[-1,0]})", R"({"dtype":"U8","shape":[1],"data_offsets":[0,1.0]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":{"a":0}})",
        R"({"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":[1e0],"data_offsets":[0,1]})", R"({"shape":[1],"data_offsets":[0,1]})",
        R"({"dtype":"U8","data_offsets":[0,1]})"}) {
    const auto path = folder.write("a", file_of(fmt::format("{{\"tensor\":{}}}", entry), "x"));
    EXPECT_THAT(test::error_of(Errc::bad_file, [&] { SafetensorsFile{path}; }), HasSubstr("tensor")) << entry;
  }
  for (const char* metadata : {"1", "[]", R"({"a":1})"}) {
    const auto path = folder.write("a", file_of(fmt::format("{{\"__metadata__\":{}}}", metadata), ""));
    EXPECT_THAT(test::error_of(Errc::bad_file, [&] { SafetensorsFile{path}; }), HasSubstr("__metadata__")) << metadata;
  }
}

TEST(Safetensors, RefusesAnOversizedHeaderThatIsReallyThere) {
  const test::TempFolder folder;
  const auto path = folder.write("a", file_of("{}", ""));
  std::filesystem::resize_file(path, SafetensorsFile::max_header_bytes + 100);  // sparse
  const std::uint64_t length = SafetensorsFile::max_header_bytes + 1;
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary)
      .write(reinterpret_cast<const char*>(&length), sizeof length);
  EXPECT_THAT(test::error_of(Errc::bad_file, [&] { SafetensorsFile{path}; }), HasSubstr("100000001"));
}

TEST(Safetensors, AReadAfterTheFileShrankNamesTheTensor) {
  const test::TempFolder folder;
  const auto path = folder.write(
      "a", file_of(R"({"a.weight":{"dtype":"U8","shape":[50000],"data_offsets":[0,50000]}})", std::string(50000, 'x')));
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, 1000);
  EXPECT_THAT(test::error_of(Errc::io, [&] { file.read(file.entries()[0]); }), HasSubstr("a.weight"));
}

}  // namespace
}  // namespace millrace
