#include "generation/held_text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lacake {
namespace {

TEST(HeldText, AnAnswerIsFoundWithoutTheBlanksThatATemplateTakesOff) {
  for (const char blank : {' ', '\t', '\n', '\v', '\f', '\r'}) {
    const HeldText held{.prompt = "why? ", .answered = blank + std::string("so it is") + blank};
    EXPECT_EQ(held.beginning_of("why? so it is, and then", {}), 13u) << (int)blank;
    EXPECT_EQ(held.beginning_of("why? so it is", {}), std::nullopt) << (int)blank;  // nothing follows
    EXPECT_EQ(held.beginning_of("why? so it was, and then", {}), std::nullopt) << (int)blank;
  }
}

TEST(HeldText, IsNoBeginningOfATextWithOtherControlTokens) {
  using Places = std::vector<ControlPlace>;
  const HeldText held{.prompt = "<b>why?<e>", .answered = "no<e>", .controls = {{0, 1}, {7, 2}}};
  const std::string text = "<b>why?<e>no<e><b>";
  EXPECT_EQ(held.beginning_of(text, Places{{0, 1}, {7, 2}}), 15u);
  EXPECT_EQ(held.beginning_of(text, Places{{0, 1}, {7, 2}, {15, 1}}), 15u);
  EXPECT_EQ(held.beginning_of(text, Places{{0, 1}, {15, 1}}), std::nullopt);           // a user wrote the first <e>
  EXPECT_EQ(held.beginning_of(text, Places{{0, 1}, {12, 2}, {15, 1}}), std::nullopt);  // as many, elsewhere
  const HeldText silent{.prompt = "<b>why?", .controls = {{0, 1}, {ControlPlace::kNowhere, 5}}};
  EXPECT_EQ(silent.beginning_of("<b>why?", Places{{0, 1}}), std::nullopt);
}

}  // namespace
}  // namespace lacake
