#include "loader/jinja_eval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/jinja_error.h"
#include "loader/jinja_parser.h"

namespace millrace::jinja {
namespace {

using testing::HasSubstr;

std::string rendered(const std::string& source) {
  const Tree tree = parse(source, "t");
  Heap heap;
  return to_utf8(render(tree, "t", heap, {}));
}

std::string refusal(const std::string& source) {
  try {
    rendered(source);
  } catch (const TemplateError& error) {
    return error.what();
  }
  return "";
}

// As Jinja 3.1.6 renders them.
TEST(JinjaEval, ExpressionsMeanWhatTheyMeanInPython) {
  const std::pair<const char*, const char*> cases[] = {
      {"-7 // 2, -7 % 3, 7 // -2, 7.5 // 2, -7.5 % 2", "(-4, 2, -4, 3.0, 0.5)"},
      {"2 ** 100, 2 ** -1, 0.1 + 0.2, 1e16, 1e-5, 123456.0",
       "(1267650600228229401496703205376, 0.5, 0.30000000000000004, 1e+16, 1e-05, 123456.0)"},
      {"true + 1, -true, 1 == 1.0, 1 < 2 < 2", "(2, -1, True, False)"},
      {"'abcdef'[::-2], 'abc'[5:], [1, 2, 3][-2:], (1, 2)[::-1], range(9)[2::3]",
       "('fdb', '', [2, 3], (2, 1), range(2, 9, 3))"},
      {"[\"it's\", 'a\"b', 'é\\u200b\\x00', none]", "[\"it's\", 'a\"b', 'é\\u200b\\x00', None]"},
      {"'%05.1f|%-4d|%+d|%x|%s|%r' % (2.25, 7, 3, 255, none, 'q')", "002.2|7   |+3|ff|None|'q'"},
      {"'{:>5}|{:<4}|{:^5}|{:05.1f}|{:,}'.format('a', 1, 'b', 2.5, 1234567)", "    a|1   |  b  |002.5|1,234,567"},
      {"{'b': 1, 'a': [true]}, {1: 2}[1.0]", "({'b': 1, 'a': [True]}, 2)"},
      {"'ΑΣ ΑΣΑ'.lower(), 'ﬁß'.upper(), \"they're bill's\".title(), 'ǆ'.title()",
       "('ας ασα', 'FISS', \"They'Re Bill'S\", 'ǅ')"},
      {"(2.5, 3.5, 0.125, -2.675) | map('round', 2) | list, 1234 | round(-2)", "([2.5, 3.5, 0.12, -2.67], 1200)"},
      {"['b', 'A', 'c'] | sort, [3, 1] | sort(reverse=true), {'b': 1, 'A': 2} | dictsort",
       "(['A', 'b', 'c'], [3, 1], [('A', 2), ('b', 1)])"},
      {"[nothing == none, nothing is defined, [nothing], nothing ~ 'x']", "[False, False, [Undefined], 'x']"},
      {"('<a>' | escape) + '<b>', '<a>' | safe, ('<' | e) ~ '<'",
       "(Markup('&lt;a&gt;&lt;b&gt;'), Markup('<a>'), '&lt;<')"},
      {"'a,b,,c'.split(','), ' a  b '.split(), 'a b c'.rsplit(' ', 1), 'x'.split(none, 1)",
       "(['a', 'b', '', 'c'], ['a', 'b'], ['a b', 'c'], ['x'])"},
      {"[1, 2] | batch(3, 'x') | list, range(5) | slice(2, 'y') | list", "([[1, 2, 'x']], [[0, 1, 2], [3, 4, 'y']])"},
  };
  for (const auto& [source, expected] : cases)
    EXPECT_EQ(rendered(std::string("{{ ") + source + " }}"), expected) << source;
}

TEST(JinjaEval, WhatPercentLeavesUnused) {
  EXPECT_EQ(rendered("{{ 'a' % [1] }}{{ '%s' % nothing }}{{ 'b' % {'k': 1} }}{{ '%(k)s' % {'k': 1} }}"), "ab1");
  EXPECT_THAT(refusal("{{ 'a' % 1 }}"), HasSubstr("not all arguments"));
  EXPECT_THAT(refusal("{{ 'a' % (1,) }}"), HasSubstr("not all arguments"));
}

TEST(JinjaEval, GeneratorsAreUsedUp) {
  EXPECT_EQ(rendered("{% set g = [1, 2] | map('string') %}{{ g | list }}{{ g | list }}"), "['1', '2'][]");
  EXPECT_EQ(rendered("{{ 'yes' if [] | select else 'no' }}"), "yes");
  EXPECT_THAT(refusal("{{ [1] | select | length }}"), HasSubstr("no len()"));
}

TEST(JinjaEval, LoopConditionsAreAskedAsTheLoopGoes) {
  EXPECT_EQ(
      rendered(
          "{% set n = namespace(s=0) %}{% for i in range(9) if n.s < 4 %}{% set n.s = n.s + i %}{{ i }}{% endfor %}"),
      "0123");
  EXPECT_EQ(
      rendered(
          "{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is sequence else x }}:{{ loop.depth }} {% endfor %}"),
      "1:1 2:2 3:3 :2 :1 ");
}

TEST(JinjaEval, ScopesAreThoseOfJinja) {
  EXPECT_EQ(rendered("{% set x = 1 %}{% for i in [0] %}{% set x = 2 %}{% endfor %}{{ x }}"), "1");
  EXPECT_EQ(rendered("{% macro m(a, b=a) %}{{ a }}{{ b }}{{ x }}{% endmacro %}{% set x = 3 %}{{ m(1) }}"), "113");
  EXPECT_EQ(rendered("{% macro m() %}{{ caller('q') }}{% endmacro %}{% call(v) m() %}[{{ v }}]{% endcall %}"), "[q]");
}

TEST(JinjaEval, ErrorsNameTheLineOfTheirCause) {
  EXPECT_THAT(refusal("{% macro m() %}\n\n{{ 1 + none }}{% endmacro %}\n{{ m() }}"), HasSubstr("t: line 3: "));
  EXPECT_THAT(refusal("{% macro m() %}\n1{% endmacro %}\n{{ m() + 1 }}"), HasSubstr("t: line 3: "));
}

// What a hostile template could do for hours or with gigabytes.
TEST(JinjaEval, WorkIsLimited) {
  for (const char* source : {
           "{% set a = 'a' * 1000000 %}{% for i in range(100000) %}{{ 'b'.strip(a) }}{% endfor %}",
           "{% set a = 'a' * 4000000 %}{% for i in range(100000) %}{{ a.find(a ~ 'b') }}{% endfor %}",
           "{% set n = namespace(a=[1]) %}{% for i in range(150) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a }}",
           "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(150) %}{% set n.a = [n.a, n.a] %}"
           "{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
           "{% set n = namespace(a=(1,), b=(1,)) %}{% for i in range(150) %}{% set n.a = (n.a, n.a) %}"
           "{% set n.b = (n.b, n.b) %}{% endfor %}{{ {n.a: 1, n.b: 2} }}",
           "{% set n = namespace(d={}) %}{% for i in range(100000) %}{% set n.d = dict(n.d, **{'k' ~ i: i}) %}{% "
           "endfor %}",
           "{% set l = range(100000) | list %}{% for i in range(100000) %}{% for x in l %}{% break %}{% endfor %}{% "
           "endfor %}",
           "{{ '%.999999999f' % 1.5 }}",
           "{{ [[[[1]]]] | tojson(indent=90000000) }}",
       })
    EXPECT_THAT(refusal(source), HasSubstr("limit")) << source;
}

TEST(JinjaEval, RingsAndChainsOfNamespacesEndWell) {
  EXPECT_THAT(refusal("{% set n = namespace() %}{% set n.a = [n] %}{{ n }}"), HasSubstr("nesting"));
  EXPECT_EQ(rendered("{% set n = namespace() %}{% set n.a = n %}{{ n.a.a is defined }}"), "True");
  EXPECT_EQ(
      rendered(
          "{% set h = namespace() %}{% set h.c = namespace() %}{% for i in range(20000) %}{% set t = namespace() %}"
          "{% set c = h.c %}{% set t.n = c %}{% set h.c = t %}{% endfor %}done"),
      "done");
  EXPECT_THAT(refusal("{% for i in [1] %}{{ loop.changed(loop) }}{% endfor %}"), HasSubstr("changed"));
}

}  // namespace
}  // namespace millrace::jinja
