#include "base/deep_stack.h"

#include <gtest/gtest.h>

#include "lacake/error.h"

namespace lacake {
namespace {

// As deep as it is told, in a way that no compiler makes a loop of.
std::size_t depth(std::size_t n) {
  volatile char frame[256] = {};
  frame[n % sizeof frame] = 1;
  return n == 0 ? 0 : depth(n - 1) + (std::size_t)frame[n % sizeof frame];
}

TEST(DeepStack, HoldsWhatThisThreadsDoesNot) {
  constexpr std::size_t kDeep = 200000;  // more than 51 MB of frames
  std::size_t reached = 0;
  on_deep_stack(kDeep * 2048, [&] { reached = depth(kDeep); });
  EXPECT_EQ(reached, kDeep);
}

TEST(DeepStack, HandsOnWhatIsThrown) {
  EXPECT_THROW(on_deep_stack(1 << 20, [] { throw Error({.found = "no"}); }), Error);
}

}  // namespace
}  // namespace lacake
