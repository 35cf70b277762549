#include "loader/safetensors_writer.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>

#include "loader/safetensors.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::HasSubstr;

// A disk that is full after `bytes`: writes beyond them fail with EFBIG.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit lowered = {bytes, limit_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &lowered);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &limit_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit limit_{};
};

test::TensorFile example() {
  test::TensorFile tensors;
  tensors.f8("c", {3, 1}, {1, 2, 3}).f32("a", {2, 2}, {1, 2, 3, 4}).bf16("b", {0}, {}).bf16("d\"\n", {}, {5});
  return tensors;
}

TEST(SafetensorsWriter, WhatItWritesReadsBack) {
  const test::TempFolder folder;
  const auto path = folder.path() / "out.safetensors";
  example().write(path);
  const SafetensorsFile file(path);
  ASSERT_EQ(file.entries().size(), 4u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.entries()[0].name, "a");
  EXPECT_EQ(file.entries()[0].offset % 8, 0u);
  EXPECT_EQ(file.read(*file.find("a"))[4 + 3], std::byte{0x40});
  EXPECT_EQ(file.find("d\"\n")->bytes, 2u);
  EXPECT_EQ(file.read(*file.find("c"))[2], std::byte{3});
  EXPECT_EQ(folder.entries(), 1);
}

TEST(SafetensorsWriter, AFullDiskLeavesWhatWasThere) {
  const test::TempFolder folder;
  const auto path = folder.path() / "out.safetensors";
  example().write(path);
  for (rlim_t bytes : {rlim_t{0}, rlim_t{100}, rlim_t{4096}}) {
    test::TensorFile large;
    large.f32("large", {100000}, std::vector<float>(100000));
    const FullDisk disk(bytes);
    const std::string message = test::error_of(Errc::io, [&] { large.write(path); });
    EXPECT_THAT(message, HasSubstr("out.safetensors"));
    EXPECT_THAT(message, HasSubstr("File too large"));
  }
  EXPECT_EQ(folder.entries(), 1);
  EXPECT_EQ(SafetensorsFile(path).entries().size(), 4u);
}

TEST(SafetensorsWriter, AnAbandonedFileLeavesNothing) {
  const test::TempFolder folder;
  const TensorHeader header = {"a", Dtype::u8, {4}};
  {
    SafetensorsWriter writer(folder.path() / "a", {}, std::span(&header, 1));
    const std::array<std::byte, 4> data{};
    writer.write(std::span(data).first(3));
    EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { writer.finish(); }), HasSubstr("1 bytes"));
    test::error_of(Errc::bad_argument, [&] { writer.write(data); });
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "a"));
  }
  EXPECT_EQ(folder.entries(), 0);
}

TEST(SafetensorsWriter, NamesWhatItCannotWrite) {
  const test::TempFolder folder;
  const auto path = folder.path() / "missing" / "a";
  EXPECT_THAT(test::error_of(Errc::io, [&] { example().write(path); }), HasSubstr("missing"));
  EXPECT_THAT(test::error_of(Errc::io, [&] { example().write(folder.path()); }), HasSubstr(folder.path().string()));
  const auto write = [&](std::vector<TensorHeader> tensors) {
    return test::error_of(Errc::bad_argument, [&] { SafetensorsWriter(folder.path() / "a", {}, tensors); });
  };
  EXPECT_THAT(write({{"twin", Dtype::u8, {0}}, {"twin", Dtype::u8, {0}}}), HasSubstr("twin"));
  EXPECT_THAT(write({{"__metadata__", Dtype::u8, {0}}}), HasSubstr("__metadata__"));
  EXPECT_THAT(write({{"negative", Dtype::u8, {-1}}}), HasSubstr("negative"));
  EXPECT_THAT(write({{"huge", Dtype::f32, {INT64_MAX, 8}}}), HasSubstr("huge"));
  EXPECT_THAT(write({{"\xff", Dtype::u8, {0}}}), HasSubstr("UTF-8"));
  test::TensorFile wrong;
  wrong.f32("wrong", {3}, {1, 2});
  EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { wrong.write(folder.path() / "a"); }), HasSubstr("wrong"));
  EXPECT_EQ(std::filesystem::exists(folder.path() / "a"), false);
}

std::vector<TensorHeader> two_tensors() {
  TensorHeader a, b;
  a.name = "a";
  a.dtype = Dtype::u8;
  a.shape = {5};
  b.name = "b";
  b.shape = {2, 2};
  return {a, b};
}

std::span<const std::byte> bytes_of(const auto& values) {
  return std::as_bytes(std::span(values));
}

TEST(SafetensorsAssembler, PiecesOfTensorsInAnyOrderBecomeOneFile) {
  const test::TempFolder folder;
  const auto path = folder.path() / "out.safetensors";
  SafetensorsAssembler assembler(path, {{"format", "pt"}}, two_tensors());
  const std::vector<float> values = {1, 2, 3, 4};
  const std::vector<std::uint8_t> codes = {5, 6, 7, 8, 9};
  assembler.append("a", bytes_of(codes).first(2));
  assembler.append("b", bytes_of(values).first(4));
  assembler.append("a", bytes_of(codes).subspan(2));
  assembler.append("b", {});
  assembler.append("b", bytes_of(values).subspan(4));
  std::vector<float> back(2);
  assembler.read_back("b", 4, std::as_writable_bytes(std::span(back)));
  EXPECT_EQ(back, (std::vector<float>{2, 3}));
  EXPECT_FALSE(std::filesystem::exists(path));
  assembler.finish();
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.entries().size(), 2u);
  EXPECT_EQ(file.entries()[0].name, "b") << "wider elements come first";
  EXPECT_TRUE(std::ranges::equal(file.read(*file.find("b")), bytes_of(values)));
  EXPECT_TRUE(std::ranges::equal(file.read(*file.find("a")), bytes_of(codes)));
  EXPECT_EQ(folder.entries(), 1);
}

TEST(SafetensorsAssembler, RefusesWhatWasNotDeclared) {
  const test::TempFolder folder;
  const auto path = folder.path() / "out.safetensors";
  SafetensorsAssembler assembler(path, {}, two_tensors());
  const std::vector<std::uint8_t> codes(6);
  std::vector<std::byte> back(1);
  const auto refused = [](auto&& call) { return test::error_of(Errc::bad_argument, call); };
  EXPECT_THAT(refused([&] { assembler.append("c", {}); }), HasSubstr("out.safetensors: no tensor c"));
  EXPECT_THAT(refused([&] { assembler.append("a", bytes_of(codes)); }), HasSubstr("tensor a has 6 bytes, its shape 5"));
  EXPECT_THAT(refused([&] { assembler.read_back("a", 0, back); }), HasSubstr("of tensor a, which has 0"));
  EXPECT_THAT(refused([&] { assembler.finish(); }), HasSubstr("tensor a has 0 bytes"));
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(SafetensorsAssembler, AFullDiskLeavesNothing) {
  const test::TempFolder folder;
  const auto path = folder.path() / "out.safetensors";
  {
    SafetensorsAssembler assembler(path, {}, two_tensors());
    const FullDisk full(16);
    EXPECT_THAT(test::error_of(Errc::io, [&] { assembler.append("b", bytes_of(std::vector<float>(4))); }),
                HasSubstr("out.safetensors: cannot be written"));
  }
  EXPECT_EQ(folder.entries(), 0);
}

}  // namespace
}  // namespace millrace
