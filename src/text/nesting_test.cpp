#include "text/nesting.h"

#include <gtest/gtest.h>

#include <string>

namespace lacake {
namespace {

TEST(Nesting, IsOfTheDeepestBracket) {
  EXPECT_EQ(nesting_of("", true), 0U);
  EXPECT_EQ(nesting_of(R"({"a": [1, {"b": 2}], "c": {}})", true), 3U);
  EXPECT_EQ(nesting_of(std::string(70000, '['), true), 70000U);
  EXPECT_EQ(nesting_of("]]}[", true), 1U);
}

TEST(Nesting, OfJsonDoesNotCountWhatStringsSay) {
  EXPECT_EQ(nesting_of(R"({"code": "[[[\"[[", "more": [1]})", true), 2U);
  EXPECT_EQ(nesting_of(R"({"code": "[[[\"[["})", false), 6U);
}

}  // namespace
}  // namespace lacake
