#include "loader/routing_trace.h"

#include <gmock/gmock.h>

#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(RoutingTrace, SurvivesAFile) {
  RoutingTrace trace({0, 32, 16});
  const ExpertUse first[] = {{5, 1}, {17, 2}}, second[] = {{15, 3}};
  trace.add(1, 2, first);
  trace.add(2, 3, second);
  trace.add(1, 1, {});
  const test::TempFolder folder;
  trace.write(folder.path() / "trace");
  const RoutingTrace read = RoutingTrace::read(folder.path() / "trace");
  EXPECT_THAT(read.experts(), ElementsAre(0, 32, 16));
  EXPECT_EQ(read.total_experts(), 48);
  ASSERT_EQ(read.size(), 3u);
  EXPECT_EQ(read[0].layer, 1);
  EXPECT_EQ(read[0].rows, 2);
  EXPECT_THAT(read[0].uses, ElementsAre(ExpertUse{5, 1}, ExpertUse{17, 2}));
  EXPECT_THAT(read[1].uses, ElementsAre(ExpertUse{15, 3}));
  EXPECT_TRUE(read[2].uses.empty());
}

TEST(RoutingTrace, RefusesBrokenFiles) {
  const test::TempFolder folder;
  const auto message = [&](const std::string& text) {
    return test::error_of(Errc::bad_file, [&] { RoutingTrace::read(folder.write("trace", text)); });
  };
  const std::string title = "millrace routing trace 1\n";
  EXPECT_THAT(message(""), HasSubstr("the first line"));
  EXPECT_THAT(message("millrace routing trace 2\n4\n"), HasSubstr("the first line"));
  EXPECT_THAT(message(title + "4 x\n"), HasSubstr("line 2"));
  EXPECT_THAT(message(title + "4 -1\n"), HasSubstr("line 2"));
  EXPECT_THAT(message(title + "4 100000\n"), HasSubstr("line 2"));
  for (const char* line :
       {"\n", "0\n", "0 1 2\n", "0 1 2:\n", "0 1 2:1x\n", "0 1  2:1\n", "0 1 99999999999:1\n", "x 1 2:1\n"})
    EXPECT_THAT(message(title + "4\n0 1 2:1\n" + line), HasSubstr("line 4 is not"));
  for (const char* line :
       {"1 1 2:1\n", "0 1 4:1\n", "0 1 2:1 2:1\n", "0 1 2:1 1:1\n", "0 1 2:2\n", "0 1 2:0\n", "0 0\n"})
    EXPECT_THAT(message(title + "4\n0 1 2:1\n" + line), HasSubstr("line 4: "));
}

TEST(RoutingTrace, AddsOnlyWhatFits) {
  RoutingTrace trace({4});
  const ExpertUse unordered[] = {{2, 1}, {1, 1}}, beyond[] = {{4, 1}}, fine[] = {{3, 1}};
  for (std::span<const ExpertUse> uses : {std::span<const ExpertUse>(unordered), std::span<const ExpertUse>(beyond)})
    test::error_of(Errc::bad_argument, [&] { trace.add(0, 1, uses); });
  test::error_of(Errc::bad_argument, [&] { trace.add(1, 1, fine); });
  test::error_of(Errc::bad_argument, [&] { trace.add(0, 0, fine); });
  test::error_of(Errc::bad_argument, [&] { RoutingTrace({-1}); });
  EXPECT_EQ(trace.size(), 0u);
}

}  // namespace
}  // namespace millrace
