#include "generation/checkpoints.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace lacake {
namespace {

// What is left of a checkpoint every `step` tokens when there is room for `most` of them.
std::vector<CheckpointSize> kept(std::size_t n_tokens, std::size_t step, std::size_t most) {
  std::vector<CheckpointSize> all;
  for (std::size_t n = step; n <= n_tokens; n += step) {
    all.push_back({n, 1});
    if (all.size() > most) all.erase(all.begin() + (std::ptrdiff_t)least_useful(all, n));
  }
  return all;
}

TEST(Checkpoints, TheLastTwoAreTheLastToGo) {
  EXPECT_EQ(least_useful(std::vector<CheckpointSize>{{10, 1}}, 20), 0u);
  EXPECT_EQ(least_useful(std::vector<CheckpointSize>{{10, 1}, {20, 1}}, 20), 0u);
  for (const std::size_t most : {2, 3, 8}) {
    const std::vector<CheckpointSize> left = kept(10000, 100, most);
    EXPECT_EQ(left[most - 1].n_tokens, 10000u);
    EXPECT_EQ(left[most - 2].n_tokens, 9900u);
  }
}

TEST(Checkpoints, ThoseThatStayFitTheirBytes) {
  const std::vector<CheckpointSize> all = {{100, 5}, {200, 3}, {300, 4}, {400, 2}};
  using Places = std::vector<std::size_t>;
  EXPECT_EQ(most_useful(all, 450, 14), (Places{0, 1, 2, 3}));
  EXPECT_EQ(most_useful(all, 450, 6), (Places{2, 3}));
  EXPECT_EQ(most_useful(all, 450, 2), (Places{3}));
  EXPECT_EQ(most_useful(all, 450, 1), Places());
  EXPECT_EQ(most_useful(all, 450, 0), Places());
  EXPECT_EQ(most_useful({}, 450, 10), Places());
}

// What the documents promise: with room for 16, to go back by d tokens costs at most d tokens more.
TEST(Checkpoints, GoingBackCostsNoMoreThanTheWayBack) {
  for (const std::size_t n_tokens : {800, 8000, 80000}) {
    const std::vector<CheckpointSize> left = kept(n_tokens, 100, 16);
    for (std::size_t wanted = 100; wanted <= n_tokens; wanted += 100) {
      std::size_t from = 0;
      for (const CheckpointSize& c : left) from = c.n_tokens <= wanted ? c.n_tokens : from;
      EXPECT_LE(wanted - from, std::max<std::size_t>(n_tokens - wanted, 100)) << wanted << " of " << n_tokens;
    }
  }
}

}  // namespace
}  // namespace lacake
