#include "policies/layer_budgets.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace lacake {
namespace {

using Budgets = std::vector<std::int64_t>;
using Sizes = std::vector<std::size_t>;

Budgets divide(std::vector<float> preferences, std::size_t total, const Sizes& caps) {
  return divide_budget(preferences, total, caps);
}

TEST(Preference, TemperaturesFlattenOrSharpen) {
  EXPECT_FLOAT_EQ(preference(100, 0.25, 1, 1), 25.0f);
  EXPECT_FLOAT_EQ(preference(100, 0.25, 2, 1), 2.5f);
  EXPECT_FLOAT_EQ(preference(100, 0.25, 1, 0.5), 6.25f);
}

TEST(Preference, IsOfTheScoredEntriesOfAllHeads) {
  // Two heads of four entries, of which the first three are scored.
  const std::vector<float> variance = {0.25f, 0, 0.25f, 9, 0.25f, 0.25f, 0, 9};
  const std::vector<double> entropy = {2, 3};
  Observation seen{
      .layer = 0, .n_entries = 4, .n_new = 4, .window = 2, .window_variance = variance, .window_entropy = entropy};
  EXPECT_FLOAT_EQ(preference(seen, 3, 1, 1).value(), 5.0f);
  seen.window = 1;
  EXPECT_FALSE(preference(seen, 3, 1, 1).has_value());
}

TEST(Preferences, ThoseNotSeenYetAreBroughtToTheScaleOfTheSegment) {
  Preferences preferences(3);
  EXPECT_EQ(preferences.n_known(), 0u);
  for (const std::size_t layer : {0, 1, 2}) preferences.see(layer, (float)layer + 1);
  EXPECT_EQ(preferences.n_known(), 3u);
  EXPECT_EQ(preferences.now(2), 3);
  preferences.see(0, 2.0f);  // twice what it was
  EXPECT_EQ(preferences.now(0), 2);
  EXPECT_EQ(preferences.now(1), 4);
  EXPECT_EQ(preferences.now(2), 6);
  preferences.see(1, std::nullopt);
  EXPECT_EQ(preferences.now(1), 2);
  EXPECT_EQ(preferences.now(2), 4);  // 4 now where 3 was before
}

TEST(Division, FollowsThePreferences) { EXPECT_EQ(divide({1, 2, 5}, 80, {100, 100, 100}), (Budgets{10, 20, 50})); }

TEST(Division, TruncationLeftoversGoToTheFirstLayers) {
  EXPECT_EQ(divide({1, 1, 1}, 11, {100, 100, 100}), (Budgets{4, 4, 3}));
}

TEST(Division, ExcessIsSpreadEvenlyOverTheLayersBelowTheirCaps) {
  // 80 - 45 = 35 too many for the last: 18 and 17 more for the others.
  EXPECT_EQ(divide({1, 1, 8}, 100, {45, 45, 45}), (Budgets{28, 27, 45}));
}

TEST(Division, OnePassCanLeaveALayerAboveItsCap) {
  // As in the official code: 66 wanted, 10 allowed; half of the rest lifts the middle layer to 52, above its cap.
  EXPECT_EQ(divide({1, 3, 8}, 96, {40, 40, 10}), (Budgets{35, 51, 10}));
  EXPECT_EQ(clip(divide({1, 3, 8}, 96, {40, 40, 10}), Sizes{40, 40, 10}), (Sizes{35, 40, 10}));
}

TEST(Division, WhatNobodyCanTakeIsLost) { EXPECT_EQ(divide({1, 1}, 100, {30, 30}), (Budgets{30, 30})); }

TEST(Division, WithoutPreferencesSharesAreEqual) {
  EXPECT_EQ(divide({0, 0}, 10, {100, 100}), (Budgets{5, 5}));
  EXPECT_EQ(divide({INFINITY, 1}, 10, {100, 100}), (Budgets{5, 5}));
}

TEST(Division, ALayerMayGetNothing) { EXPECT_EQ(divide({1, 1000}, 100, {200, 200}), (Budgets{1, 99})); }

TEST(Division, OfTheWholeLosesNothingWhileALayerHasRoom) {
  EXPECT_EQ(divide_whole(std::vector<float>{1, 3, 8}, 96, Sizes{45, 40, 10}), (Sizes{45, 40, 10}));
  EXPECT_EQ(divide_whole(std::vector<float>{1, 2, 5}, 80, Sizes{100, 100, 100}), (Sizes{10, 20, 50}));
}

TEST(SpreadLost, FillsLayersUpToTheirCaps) {
  Sizes budgets{35, 40, 10};
  spread_lost(budgets, 96, Sizes{40, 60, 10});
  EXPECT_EQ(budgets, (Sizes{40, 46, 10}));
}

TEST(SpreadLost, StopsWhenAllAreFull) {
  Sizes budgets{3, 4};
  spread_lost(budgets, 100, Sizes{5, 6});
  EXPECT_EQ(budgets, (Sizes{5, 6}));
}

TEST(SpreadLost, NeverExceedsTheTotal) {
  Sizes budgets{1, 1, 1};
  spread_lost(budgets, 5, Sizes{9, 9, 9});
  EXPECT_EQ(std::accumulate(budgets.begin(), budgets.end(), std::size_t{0}), 5u);
}

// The sharpest that CAKE takes, of 64 heads whose 32 rows are spread over a million entries.
TEST(Preference, IsFiniteAtTheLeastTemperatures) {
  const float sharp = preference(64 * 32 * std::log(1e6), 64 * 0.25, 0.2, 0.2);
  EXPECT_LT(sharp, std::numeric_limits<float>::max() / 2);
  EXPECT_GT(preference(1e-3, 1e-6, 0.2, 0.2), 0);
}

}  // namespace
}  // namespace lacake
