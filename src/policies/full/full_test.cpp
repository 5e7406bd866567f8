#include "policies/full/full.h"

#include <gtest/gtest.h>

#include <string>

#include "lacake/error.h"
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
  EXPECT_EQ(full_policy().make({}, kShape, 1)->traits().positions, Positions::kOriginal);
  EXPECT_EQ(full_policy().make({{"positions", "compacted"}}, kShape, 1)->traits().positions, Positions::kCompacted);
}

TEST(Full, ReservesTheConversationAndOneTokenInFlight) {
  EXPECT_FALSE(full_policy().bounded);
  EXPECT_EQ(full_policy().make({}, kShape, 100)->reserve(0, 0), 101u);
  EXPECT_EQ(full_policy().max_entries_per_layer({}, kShape, 100), 101u);
}

TEST(Full, ARefusalToShrinkSaysWhatItHolds) {
  const auto policy = full_policy().make({}, kShape, 100);
  simulation::SimulatedCache cache(kShape, policy->traits());
  cache.feed(*policy, Phase::kPrefill, 90, {});
  EXPECT_NO_THROW(cache.resize(*policy, 90));
  try {
    cache.resize(*policy, 89);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kCapacity);
    EXPECT_NE(std::string(error.what()).find("90 entries"), std::string::npos) << error.what();
  }
  EXPECT_EQ(policy->reserve(0, 0), 91u);
}

}  // namespace
}  // namespace lacake
