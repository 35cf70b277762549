#include "model/tool_format.h"

#include <gmock/gmock.h>

#include "model/family.h"

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;

auto is_element(const char* name, const char* body) {
  return ::testing::AllOf(Field(&ToolElement::name, name), Field(&ToolElement::body, body));
}

TEST(ToolFormat, EveryFamilyHasOne) {
  for (const Family* family : families()) ASSERT_NE(family->tool_format, nullptr) << family->name;
}

TEST(ToolFormat, FindsWholeCalls) {
  EXPECT_THAT(find_calls("x<function= a >1</function>\n<function=b></function>y", mimo_tool_format),
              ElementsAre(is_element("a", "1"), is_element("b", "")));
  EXPECT_THAT(find_calls("<invoke name=\"a\">1</invoke><invoke name=\"b\">2</invoke>", minimax_tool_format),
              ElementsAre(is_element("a", "1"), is_element("b", "2")));
  EXPECT_EQ(find_calls("-<function=a>1</function>-", mimo_tool_format)[0].whole, "<function=a>1</function>");
}

TEST(ToolFormat, SkipsWhatIsNoCall) {
  EXPECT_THAT(find_calls("<function=>1</function>", mimo_tool_format), IsEmpty());
  EXPECT_THAT(find_calls("<function=a>1", mimo_tool_format), IsEmpty());
  EXPECT_THAT(find_calls("<function=a", mimo_tool_format), IsEmpty());
  EXPECT_THAT(find_calls("<function=><function=a>1</function>", mimo_tool_format), ElementsAre(is_element("a", "1")));
  EXPECT_THAT(find_calls("<invoke name=\"a\" x><invoke name=\"b\">1</invoke>", minimax_tool_format),
              ElementsAre(is_element("b", "1")));
}

TEST(ToolFormat, ParametersEndAtTheFirstClosingTag) {
  EXPECT_THAT(find_parameters("<parameter=a>1\n<parameter=b>2</parameter></parameter>", mimo_tool_format),
              ElementsAre(is_element("a", "1\n<parameter=b>2")));
}

TEST(ToolFormat, Strips) {
  EXPECT_EQ(stripped("\n a \n", "\n"), " a ");
  EXPECT_EQ(stripped("\n\n", "\n"), "");
  EXPECT_EQ(stripped("", tool_blank), "");
}

}  // namespace
}  // namespace millrace
