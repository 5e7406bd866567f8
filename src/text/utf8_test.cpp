#include "text/utf8.h"

#include <gtest/gtest.h>

namespace lacake {
namespace {

const std::string kMixed = "aé\u2028你🐯\U0010FFFF z";
const std::string kBroken = "a\xC3(\xE2\x82 \xF0\x9F\x90\xED\xA0\x80\xC0\xAF\xF5\xFF|\xF4\x90\x80\x80";

std::string streamed(std::string_view bytes, std::size_t chunk) {
  Utf8Stream stream;
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += chunk) {
    const std::string text = stream.push(bytes.substr(at, chunk));
    EXPECT_EQ(invalid_utf8_offset(text), std::nullopt);
    out += text;
  }
  return out + stream.flush();
}

TEST(Utf8Stream, GivesValidTextBackHoweverItIsSplit) {
  for (std::size_t chunk = 1; chunk <= kMixed.size(); ++chunk) EXPECT_EQ(streamed(kMixed, chunk), kMixed);
}

TEST(Utf8Stream, HoldsBackACharacterUntilItsLastByte) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xF0"), "a");
  EXPECT_EQ(stream.push("\x9F\x90"), "");
  EXPECT_EQ(stream.push("\xAF!"), "🐯!");
  EXPECT_EQ(stream.flush(), "");
}

TEST(Utf8Stream, ReplacesEachLongestBeginningOnce) {
  // As Unicode 15 section 3.9 and Python's errors="replace" do.
  const std::string expected =
      "a\uFFFD(\uFFFD \uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD\uFFFD";
  for (std::size_t chunk = 1; chunk <= kBroken.size(); ++chunk) EXPECT_EQ(streamed(kBroken, chunk), expected) << chunk;
}

TEST(Utf8Stream, FlushReplacesWhatWasCutOffAndStartsAnew) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("\xE4\xBD"), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
  EXPECT_EQ(stream.push("\xA0"), "\uFFFD");
  EXPECT_EQ(stream.push("x"), "x");
}

TEST(InvalidUtf8, AcceptsEveryLengthAndTheEdgesOfTheirRanges) {
  for (const char* text : {"", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                           "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(invalid_utf8_offset(text), std::nullopt) << text;
  }
  EXPECT_EQ(invalid_utf8_offset(std::string_view("\0a", 2)), std::nullopt);
}

TEST(InvalidUtf8, NamesTheFirstByteOfTheFirstMalformedCharacter) {
  struct Case {
    const char* what;
    const char* text;
    std::size_t offset;
  };
  for (const Case& c : {Case{"continuation alone", "ab\x80", 2},
                        {"cut off", "é\xE4\xBD", 2},
                        {"overlong", "a\xC0\xAF", 1},
                        {"overlong of three", "\xE0\x9F\xBF", 0},
                        {"overlong of four", "\xF0\x8F\xBF\xBF", 0},
                        {"surrogate", "a\xED\xA0\x80", 1},
                        {"above U+10FFFF", "\xF4\x90\x80\x80", 0},
                        {"Latin-1", "caf\xE9 au lait", 3},
                        {"UTF-16 mark", "\xFF\xFE", 0}}) {
    EXPECT_EQ(invalid_utf8_offset(c.text), c.offset) << c.what;
  }
}

}  // namespace
}  // namespace lacake
