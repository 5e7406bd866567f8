#include "policies/full/full.h"

#include <gtest/gtest.h>

#include "property/simulated_cache.h"

namespace lacake {
namespace {

constexpr AttentionShape kShape{.n_layer = 3, .n_head = 4, .n_head_kv = 2};

TEST(Full, NeverNamesASelection) {
  const auto policy = full_policy().make({}, kShape, 100);
  simulation::SimulatedCache cache(kShape, policy->traits());
  cache.feed(*policy, Phase::kPrefill, 90, {});
  for (int i = 0; i < 10; ++i) cache.feed(*policy, Phase::kDecode, 1, {});
  EXPECT_EQ(cache.n_selections(), 0u);
  EXPECT_EQ(cache.length(2), 100u);
}

TEST(Full, StandsAtTruePositionsUnlessAsked) {
  EXPECT_EQ(full_policy().make({}, kShape, 1)->traits().positions, Positions::kTrue);
  EXPECT_EQ(full_policy().make({{"positions", 1}}, kShape, 1)->traits().positions, Positions::kCacheIndex);
}

TEST(Full, ReservesTheConversationAndOneTokenInFlight) {
  EXPECT_FALSE(full_policy().bounded);
  EXPECT_EQ(full_policy().make({}, kShape, 100)->reserve(0, 0), 101u);
  EXPECT_EQ(full_policy().max_entries_per_layer({}, kShape, 100), 101u);
}

}  // namespace
}  // namespace lacake
