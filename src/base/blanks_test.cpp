#include "base/blanks.h"

#include <gtest/gtest.h>

#include <cctype>
#include <string>

namespace lacake {
namespace {

TEST(Blanks, AroundATextGoAndThoseInItStay) {
  EXPECT_EQ(without_blanks(" \t\r\n two  words\v\f"), "two  words");
  EXPECT_EQ(without_blanks("word"), "word");
  EXPECT_EQ(without_blanks(" \n"), "");
  EXPECT_EQ(without_blanks(""), "");
}

TEST(Blanks, AreWhatCTakesForThem) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, (char)byte);
    EXPECT_EQ(without_blanks(text).empty(), std::isspace(byte) != 0) << byte;
  }
}

}  // namespace
}  // namespace lacake
