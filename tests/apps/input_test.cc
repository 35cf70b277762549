#include "apps/common/input.h"

#include <gmock/gmock.h>

#include "apps/common/output.h"
#include "runtime/sampler.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Ids, AnySeparators) {
  EXPECT_THAT(parse_ids("1,2,3", "x"), ElementsAre(1, 2, 3));
  EXPECT_THAT(parse_ids(" [1, 2,\n3]\t", "x"), ElementsAre(1, 2, 3));
  EXPECT_THAT(parse_ids("2147483647 0", "x"), ElementsAre(2147483647, 0));
  EXPECT_THAT(parse_ids("", "x"), IsEmpty());
}

TEST(Ids, RefusesWhatIsNone) {
  for (const char* text : {"a", "1,-2", "1.5", "2147483648", "0x10", "1,2x", "1;2", "+1"}) {
    EXPECT_THROW(parse_ids(text, "x"), Error) << text;
    EXPECT_NE(check_ids(text), "") << text;
  }
  EXPECT_EQ(check_ids("1 2"), "");
  EXPECT_THAT(parse_ids("-100,3", "x", -100), ElementsAre(-100, 3));
  EXPECT_THROW(parse_ids("-101", "x", -100), Error);
}

TEST(Input, ReadsFilesAndRefusesFolders) {
  test::TempFolder folder;
  folder.write("text", std::string("a\0b\n", 4));
  EXPECT_EQ(read_input(folder.path() / "text"), std::string("a\0b\n", 4));
  EXPECT_THROW(read_input(folder.path()), Error);
  EXPECT_THROW(read_input(folder.path() / "absent"), Error);
}

TEST(Printable, ControlCharactersAreSpelledOut) {
  EXPECT_EQ(printable("a\x1b[31m\n\x7f"), "a\\x1b[31m\\x0a\\x7f");
  EXPECT_EQ(printable("na\xc3\xafve"), "na\xc3\xafve");
}

TEST(Input, ReadsLogitBiases) {
  const LogitBias bias = parse_logit_bias("42=-1.5");
  EXPECT_EQ(bias.id, 42);
  EXPECT_EQ(bias.value, -1.5f);
  EXPECT_EQ(parse_logit_bias("0=-inf").value, -std::numeric_limits<float>::infinity());
  for (const char* text : {"", "1", "1=", "=2", "-1=2", "1=x", "1=nan", "1=inf", "1=2,", "1 = 2", "99999999999=1"})
    EXPECT_THROW(parse_logit_bias(text), Error) << text;
}

}  // namespace
}  // namespace millrace
