#include "policies/random/random.h"

#include <gtest/gtest.h>

#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 2, .n_head = 2, .n_head_kv = 2};

PositionList kept(double seed, std::vector<std::size_t> chunks, int layer = 0, int head = 0) {
  const auto p = random_policy().make({{"sinks", 2}, {"window", 3}, {"seed", seed}}, kShape, 25);
  SimulatedCache cache(kShape, p->traits());
  for (const std::size_t n : chunks) cache.feed(*p, n == 1 ? Phase::kDecode : Phase::kPrefill, n, {});
  return cache.held(layer, head);
}

TEST(Random, KeepsSinksAndTheLastEntries) {
  const PositionList held = kept(0, {400});
  ASSERT_EQ(held.size(), 25u);
  EXPECT_EQ(PositionList(held.begin(), held.begin() + 2), (PositionList{0, 1}));
  EXPECT_EQ(PositionList(held.end() - 3, held.end()), (PositionList{397, 398, 399}));
}

TEST(Random, SeedsLayersAndHeadsChooseDifferently) {
  EXPECT_EQ(kept(1, {400}), kept(1, {400}));
  EXPECT_NE(kept(1, {400}), kept(2, {400}));
  EXPECT_NE(kept(1, {400}, 0), kept(1, {400}, 1));
  EXPECT_NE(kept(1, {400}, 0, 0), kept(1, {400}, 0, 1));
}

TEST(Random, DoesNotDependOnHowTheTextWasCut) { EXPECT_EQ(kept(1, {400}), kept(1, {30, 70, 299, 1})); }

TEST(Random, IsFairToOldAndNew) {
  int n_old = 0;
  for (double seed = 0; seed < 50; ++seed) {
    const PositionList held = kept(seed, {400});
    for (std::size_t i = 2; i < 22; ++i) n_old += held[i] < 200 ? 1 : 0;
  }
  EXPECT_NEAR(n_old, 500, 80);  // of 1000, five standard deviations
}

}  // namespace
}  // namespace lacake
