#include "lacake/error.h"

#include <gtest/gtest.h>

#include <type_traits>

namespace lacake {
namespace {

using Fields = Error::Fields;

std::string flag(std::string_view setting) { return setting == "kv_budget" ? "--budget" : ""; }

TEST(Error, SaysItsFieldsInOneLine) {
  EXPECT_STREQ(
      Error(Fields{.subject = "a.gguf", .expected = "a number", .found = "\"x\"", .remedy = "give one"}).what(),
      "a.gguf: expected a number, found \"x\"; give one");
  EXPECT_STREQ(Error(Fields{.subject = "KV cache", .found = "full"}).what(), "KV cache: full");
  EXPECT_STREQ(Error(Fields{.found = "full", .remedy = "wait"}).what(), "full; wait");
  EXPECT_STREQ(Error(Fields{.subject = "x", .expected = "a line", .found = "two\nlines"}).what(),
               "x: expected a line, found two lines");
}

TEST(Error, TakesTheProgramsNamesForSettings) {
  const Error error(Fields{.subject = "kv_budget",
                           .expected = "more than `kv_budget` 3",
                           .found = "`chunk` 4",
                           .remedy = "a larger `kv_budget` would do"});
  EXPECT_STREQ(error.what(), "kv_budget: expected more than kv_budget 3, found chunk 4; a larger kv_budget would do");
  EXPECT_EQ(error.with_names(flag),
            "--budget: expected more than --budget 3, found chunk 4; a larger --budget would do");
}

TEST(Error, IsCopiedWithoutThrowing) {
  static_assert(std::is_nothrow_copy_constructible_v<Error> && std::is_nothrow_copy_assignable_v<Error>);
  const Error error(Fields{.subject = "a", .found = "b"}), copy = error;
  EXPECT_STREQ(copy.what(), "a: b");
  EXPECT_EQ(copy.fields().found, "b");
}

TEST(Error, LeavesASubjectThatIsNoSettingAlone) {
  EXPECT_EQ(Error(Fields{.subject = "kv_budget.gguf: x", .found = "y"}).with_names(flag), "kv_budget.gguf: x: y");
  EXPECT_EQ(Error(Fields{.subject = "kv_budget 3", .found = "an open ` quote"}).with_names(flag),
            "--budget 3: an open ` quote");
}

}  // namespace
}  // namespace lacake
