#include "generation/held_text.h"

#include <gtest/gtest.h>

#include <string>

namespace lacake {
namespace {

TEST(HeldText, AnAnswerIsFoundWithoutTheBlanksThatATemplateTakesOff) {
  for (const char blank : {' ', '\t', '\n', '\v', '\f', '\r'}) {
    const HeldText held{.prompt = "why? ", .answered = blank + std::string("so it is") + blank};
    EXPECT_EQ(held.beginning_of("why? so it is, and then"), 13u) << (int)blank;
    EXPECT_EQ(held.beginning_of("why? so it is"), std::nullopt) << (int)blank;  // nothing follows
    EXPECT_EQ(held.beginning_of("why? so it was, and then"), std::nullopt) << (int)blank;
  }
}

}  // namespace
}  // namespace lacake
