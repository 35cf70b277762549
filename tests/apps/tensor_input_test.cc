#include "apps/common/tensor_input.h"

#include <gmock/gmock.h>

#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(TensorInput, ReadsEveryFormat) {
  test::TempFolder folder;
  test::TensorFile()
      .f32("f32", {2}, {1.5f, -2})
      .bf16("bf16", {2}, {1.5f, -2})
      .add<std::uint16_t>("f16", Dtype::f16, {2}, {0x3e00, 0xc000})
      .add<std::int32_t>("i32", Dtype::i32, {3}, {1, 0, -7})
      .add<std::int64_t>("i64", Dtype::i64, {2}, {1, 0})
      .add<std::int64_t>("large", Dtype::i64, {1}, {std::int64_t{1} << 40})
      .add<std::uint8_t>("bool", Dtype::boolean, {1, 1, 3}, {1, 0, 1})
      .write(folder.path() / "t.safetensors");
  const SafetensorsFile file(folder.path() / "t.safetensors");
  for (const char* name : {"f32", "bf16", "f16"}) {
    EXPECT_TRUE(is_floating(demand_tensor(file, name)));
    EXPECT_THAT(read_floats(file, demand_tensor(file, name)), ElementsAre(1.5f, -2)) << name;
  }
  EXPECT_THAT(read_integers(file, demand_tensor(file, "i32")), ElementsAre(1, 0, -7));
  EXPECT_THAT(read_integers(file, demand_tensor(file, "i64")), ElementsAre(1, 0));
  EXPECT_THAT(read_flags(file, demand_tensor(file, "bool")), ElementsAre(1, 0, 1));
  EXPECT_THAT(core_shape(demand_tensor(file, "bool"), 1), ElementsAre(3));
  EXPECT_THAT(core_shape(demand_tensor(file, "bool"), 2), ElementsAre(1, 3));

  const auto error = [&](auto read, const char* name) {
    return test::error_of(Errc::bad_file, [&] { read(file, demand_tensor(file, name)); });
  };
  EXPECT_THAT(error(read_floats, "i32"), HasSubstr("i32 is I32, expected F32, BF16 or F16"));
  EXPECT_THAT(error(read_integers, "f32"), HasSubstr("f32 is F32, expected I32"));
  EXPECT_THAT(error(read_integers, "large"), HasSubstr("large holds 1099511627776"));
  EXPECT_THAT(error(read_flags, "i32"), HasSubstr("entry 2 of i32 is -7"));
  EXPECT_THAT(test::error_of(Errc::not_found, [&] { demand_tensor(file, "mask"); }), HasSubstr("no tensor 'mask'"));
}

}  // namespace
}  // namespace millrace
