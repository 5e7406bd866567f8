#include "policies/learned/learned.h"

#include <gtest/gtest.h>

#include "lacake/error.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 2, .n_head = 1, .n_head_kv = 1, .calibration = 7};

// The simulated cache takes learned scores of new tokens from the attention source: here a token's is n mod 4, n its
// place among the entries, and the second layer's are ten times as high.
std::vector<float> by_place(int layer, std::size_t n_entries, std::size_t) {
  std::vector<float> row(n_entries);
  for (std::size_t i = 0; i < n_entries; ++i) row[i] = (float)(i % 4) * (layer == 0 ? 1.0f : 10.0f);
  return row;
}

TEST(Learned, KeepsSinksTheNewestAndTheHighestScores) {
  const auto p = learned_policy().make({{"sinks", 1}, {"heads", "even"}}, kShape, 8);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 20, by_place);
  // A quarter of 8 is recent.
  EXPECT_EQ(cache.held(0), (PositionList{0, 3, 7, 11, 14, 15, 18, 19}));
}

TEST(Learned, WindowIsAtMostWhatWasAskedFor) {
  const auto p = learned_policy().make({{"window", 3}}, kShape, 100);
  EXPECT_EQ(p->traits().window, 3u);
  EXPECT_EQ(learned_policy().make({}, kShape, 100)->traits().window, 25u);
  EXPECT_EQ(learned_policy().make({}, kShape, 1000)->traits().window, 128u);
}

TEST(Learned, LayersShareByTheirScores) {
  const auto p = learned_policy().make({{"sinks", 1}, {"floor", 0}}, kShape, 8);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 20, by_place);
  EXPECT_EQ(cache.length(0), 3u);
  EXPECT_EQ(cache.length(1), 13u);
}

TEST(LearnedDecode, TheLowestGoesAndScoresStayWhatTheyWere) {
  const auto p = learned_policy().make({{"sinks", 0}, {"window", 1}, {"heads", "even"}}, kShape, 4);
  SimulatedCache cache(kShape, p->traits());
  // Scores fall from token to token.
  float next = 0;
  const auto falling = [&](int, std::size_t n_entries, std::size_t) { return std::vector<float>(n_entries, next); };
  for (int i = 0; i < 6; ++i) {
    next = (float)(-i);
    cache.feed(*p, Phase::kDecode, 1, falling);
  }
  EXPECT_EQ(cache.held(0), (PositionList{0, 1, 2, 5}));
}

TEST(Learned, AsksForNothingOfAttentionAndAlwaysForScores) {
  const auto p = learned_policy().make({}, kShape, 40);
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 9, 9), (Measures{.learned = true}));
  EXPECT_EQ(p->measures(Phase::kDecode, 1, 41, 1), (Measures{.learned = true}));
}

TEST(Learned, RefusesAModelWithoutScoresAndSaysWhatMakesThem) {
  const AttentionShape none{.n_layer = 2, .n_head = 1, .n_head_kv = 1};
  for (const bool make : {false, true}) {
    try {
      if (make) (void)learned_policy().make({}, none, 40);
      if (!make) (void)learned_policy().min_cache_size({}, none);
      ADD_FAILURE() << "not refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::kUsage);
      EXPECT_STREQ(error.what(),
                   "policy learned: expected a model with learned scores (calibration), found none; "
                   "lacake calibrate makes them from any text");
    }
  }
}

}  // namespace
}  // namespace lacake
