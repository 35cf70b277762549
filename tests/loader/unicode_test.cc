#include "loader/unicode.h"

#include <gtest/gtest.h>

#include "loader/byte_alphabet.h"

namespace millrace {
namespace {

std::string utf8(char32_t point) {
  std::string text;
  append_utf8(text, point);
  return text;
}

TEST(Utf8, EveryCodePointComesBack) {
  for (char32_t point = 0; point <= 0x10FFFF; ++point) {
    if (point >= 0xD800 && point <= 0xDFFF) continue;
    const std::string text = utf8(point);
    const Utf8Step step = utf8_step(text);
    ASSERT_EQ(step.status, Utf8Status::valid) << text;
    ASSERT_EQ(step.bytes, text.size()) << text;
    ASSERT_TRUE(step.code_point == point) << text;
    ASSERT_TRUE(last_utf8_step("x" + text).code_point == point) << text;
    for (std::size_t cut = 1; cut < text.size(); ++cut)
      ASSERT_EQ(utf8_step(text.substr(0, cut)).status, Utf8Status::incomplete) << text;
  }
}

TEST(Utf8, ReplacesEachMaximalInvalidPart) {
  const std::string r = "\uFFFD";
  EXPECT_EQ(replace_invalid_utf8("a\xFF"
                                 "b"),
            "a" + r + "b");
  EXPECT_EQ(replace_invalid_utf8("\xC0\x80"), r + r);                  // overlong
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), r + r + r);          // a surrogate
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), r + r + r + r);  // beyond U+10FFFF
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98x"), r + "x");           // cut short
  EXPECT_EQ(replace_invalid_utf8("\xE2\x82\xE2\x82\xAC"), r + "\u20AC");
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98"), r);  // at the end
  EXPECT_EQ(replace_invalid_utf8(std::string_view("a\0b", 3)), std::string("a\0b", 3));
}

TEST(Utf8, HoldsBackOnlyWhatMayBecomeACharacter) {
  std::string bytes = "a\xE2\x82", text;
  take_utf8(bytes, text);
  EXPECT_EQ(text, "a");
  EXPECT_EQ(bytes, "\xE2\x82");
  bytes += "\xAC\xFF\xF0";
  take_utf8(bytes, text);
  EXPECT_EQ(text, "a\u20AC\uFFFD");
  EXPECT_EQ(bytes, "\xF0");
  bytes = "\xED\xA0";
  text.clear();
  take_utf8(bytes, text);
  EXPECT_EQ(text, "");
  bytes += "\x80";
  take_utf8(bytes, text);
  EXPECT_EQ(text, "\uFFFD\uFFFD\uFFFD");
}

TEST(Utf8, QuotesForMessages) {
  EXPECT_EQ(in_quotes("a\n\xFF"), "\"a?\uFFFD\"");
  EXPECT_EQ(in_quotes(std::string(100, 'x')), "\"" + std::string(64, 'x') + "...\"");
}

TEST(Normalize, MakesTheFourForms) {
  const std::string composed = "cr\u00E8me \uFB01\uAC01", decomposed = "cre\u0300me \uFB01\u1100\u1161\u11A8";
  EXPECT_EQ(normalize(decomposed, NormalForm::nfc), composed);
  EXPECT_EQ(normalize(composed, NormalForm::nfd), decomposed);
  EXPECT_EQ(normalize(decomposed, NormalForm::nfkc), "cr\u00E8me fi\uAC01");
  EXPECT_EQ(normalize(composed, NormalForm::nfkd), "cre\u0300me fi\u1100\u1161\u11A8");
}

TEST(Normalize, OrdersMarksAndKeepsWhatMustNotCompose) {
  EXPECT_EQ(normalize("q\u0307\u0323", NormalForm::nfc), "q\u0323\u0307");
  EXPECT_EQ(normalize("\u1E0B\u0323", NormalForm::nfc), "\u1E0D\u0307");
  EXPECT_EQ(normalize("\u212B", NormalForm::nfc), "\u00C5");
  EXPECT_EQ(normalize("\u0958", NormalForm::nfc), "\u0915\u093C");  // excluded from composition
  EXPECT_EQ(normalize("\u0300x", NormalForm::nfc), "\u0300x");
}

TEST(Normalize, ALongRunOfMarksIsNotQuadratic) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += "\u0300\u0323";
  const std::string normal = normalize(text, NormalForm::nfc);
  EXPECT_EQ(normal.substr(0, 5), "\u1EA1\u0323");
  EXPECT_EQ(normal.size(), text.size());
}

TEST(Classes, FollowUnicode) {
  for (const char32_t point : {0x09, 0x0D, 0x20, 0x85, 0xA0, 0x1680, 0x2003, 0x2028, 0x202F, 0x3000})
    EXPECT_TRUE(is_white_space(point)) << static_cast<unsigned>(point);
  for (const char32_t point : {0x1C, 0x1F, 0x180E, 0x200B, 0x2060, 0xFEFF, 0x61})
    EXPECT_FALSE(is_white_space(point)) << static_cast<unsigned>(point);
  for (const char32_t point : {U'a', U'É', U'_', U'7', U'水', U'\u0301', U'\u200D', U'\u200C', U'Ⅳ', U'ⓐ', U'‿', U'٣'})
    EXPECT_TRUE(is_word_character(point)) << static_cast<unsigned>(point);
  for (const char32_t point : {U' ', U'-', U'½', U'①', U'€', U'\u2019', U'😀', U'\0'})
    EXPECT_FALSE(is_word_character(point)) << static_cast<unsigned>(point);
}

TEST(ByteAlphabet, EveryByteComesBack) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::string letter = byte_letter(static_cast<std::uint8_t>(byte));
    EXPECT_EQ(bytes_of_letters(letter), std::string(1, static_cast<char>(byte))) << byte;
  }
  EXPECT_EQ(byte_letter(' '), "\u0120");
  EXPECT_EQ(byte_letter('\n'), "\u010A");
  EXPECT_EQ(byte_letter(0xAD), "\u0143");
  EXPECT_EQ(bytes_of_letters("cr\u00E8me"), "cr\xE8me");
  EXPECT_FALSE(bytes_of_letters("a b"));
  EXPECT_FALSE(bytes_of_letters("\u6C34"));
}

}  // namespace
}  // namespace millrace
