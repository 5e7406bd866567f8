#include "policies/score.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace lacake {
namespace {

using Order = std::vector<std::uint32_t>;
using Scores = std::vector<float>;

TEST(EvictScore, PoolsOverFiveAndAlwaysDividesByFive) {
  EXPECT_EQ(evict_score(Scores{5, 0, 0, 0, 0, 10}, {}, 6, 6, 0), (Scores{1, 1, 1, 2, 2, 2}));
}

TEST(EvictScore, EntriesOfTheWindowAreOutsideOfThePooling) {
  EXPECT_EQ(evict_score(Scores{5, 0, 0, 0, 100, 100}, {}, 6, 4, 0), (Scores{1, 1, 1, 0}));
}

TEST(EvictScore, WeighsTheVariance) {
  EXPECT_EQ(evict_score(Scores{5, 0, 0}, Scores{0, 1, 0}, 3, 3, 10), (Scores{3, 3, 3}));
}

TEST(EvictScore, IsTheMeanOverTheGroup) { EXPECT_EQ(evict_score(Scores{5, 0, 15, 0}, {}, 2, 2, 0), (Scores{2, 2})); }

TEST(Rank, HighestFirst) { EXPECT_EQ(rank(Scores{1, 4, 2, 3}, 3), (Order{1, 3, 2})); }

TEST(Rank, OfEqualScoresTheLowerIndexComesFirst) {
  EXPECT_EQ(rank(Scores{1, 2, 2, 1, 2}, 4), (Order{1, 2, 4, 0}));
  EXPECT_EQ(rank(Scores{0.0f, -0.0f, 1}, 3), (Order{2, 0, 1}));
}

TEST(Rank, NegativeScoresRankBelow) { EXPECT_EQ(rank(Scores{-2, 1, -1}, 3), (Order{1, 2, 0})); }

TEST(Rank, FallingScoresStayAsTheyAre) { EXPECT_EQ(rank(Scores{4, 3, 3, 1}, 2), (Order{0, 1})); }

TEST(Rank, IsAStableSortWhateverTheRangeOfScores) {
  for (const float widest : {1e-6f, 1.0f, 30.0f, 80.0f}) {  // of the exponents, so of the keys
    Scores scores(1000);
    std::mt19937 random(1);
    for (float& s : scores) {
      s = std::exp(widest * (float)(random() % 997) / -997.0f);
      if (random() % 8 == 0) s = random() % 2 == 0 ? 0.0f : -s;
    }
    Order expected(scores.size());
    std::iota(expected.begin(), expected.end(), 0u);
    std::stable_sort(expected.begin(), expected.end(), [&](auto a, auto b) { return scores[a] > scores[b]; });
    EXPECT_EQ(rank(scores, scores.size()), expected) << widest;
  }
}

TEST(Rank, TellsApartWhatDiffersInItsLastBits) {
  Scores scores{0, 1e30f};
  for (int i = 0; i < 2000; ++i) scores.push_back(1 + (float)(i * 37 % 50) * 0x1p-23f);
  Order expected(scores.size());
  std::iota(expected.begin(), expected.end(), 0u);
  std::stable_sort(expected.begin(), expected.end(), [&](auto a, auto b) { return scores[a] > scores[b]; });
  EXPECT_EQ(rank(scores, scores.size()), expected);
}

TEST(Rank, OfNothingIsNothing) { EXPECT_EQ(rank(Scores{1, 2}, 0), Order{}); }

TEST(Pool, IsTheScoreOfAGroupOfOne) {
  for (std::size_t n = 1; n < 12; ++n) {
    Scores values(n), pooled(n);
    for (std::size_t i = 0; i < n; ++i) values[i] = (float)(5 * ((i * 7 + 3) % 11));
    pool(values, pooled);
    const Scores expected = evict_score(values, {}, n, n, 0);
    for (std::size_t i = 0; i < n; ++i) EXPECT_FLOAT_EQ(pooled[i], expected[i]) << i << " of " << n;
  }
}

TEST(ReadOn, GivesEachTokenAShareOfTheOneBeforeIt) {
  Scores scores{0, 8, 0, 5, 0};
  read_on(std::vector<std::int64_t>{3, 4, 5, 6, 7}, 0.5f, scores);
  EXPECT_EQ(scores, (Scores{0, 8, 4, 5, 2.5f}));
}

TEST(ReadOn, CountsTheTokensThatWereDroppedBetween) {
  Scores scores{8, 0, 0};
  read_on(std::vector<std::int64_t>{0, 3, 1000}, 0.5f, scores);
  EXPECT_EQ(scores, (Scores{8, 1, 0}));
}

TEST(Top, ComesInTheOrderOfTheEntries) { EXPECT_EQ(top(Scores{1, 4, 2, 3}, 3), (Order{1, 2, 3})); }

TEST(Top, OfEqualScoresTheNewerStays) {
  EXPECT_EQ(top(Scores{2, 2, 3, 2, 1}, 2), (Order{2, 3}));
  EXPECT_EQ(top(Scores{0, 0, 0}, 2), (Order{1, 2}));
}

TEST(Top, TakesNothingOrAll) {
  EXPECT_EQ(top(Scores{3, 1}, 0), Order{});
  EXPECT_EQ(top(Scores{3, 1}, 2), (Order{0, 1}));
  EXPECT_EQ(top({}, 0), Order{});
}

// More than are compared one by one, in one or many digits, with many that are equal.
TEST(Top, OfManyIsWhatAStableSortPutsFirst) {
  std::mt19937 random(7);
  for (const float step : {1e-6f, 0.01f, 3.0f}) {
    Scores scores(5000);
    for (float& s : scores) s = step * (float)(int)(random() % 2000) - 1000 * step;
    scores[17] = std::numeric_limits<float>::max();
    scores[99] = scores[4000] = -std::numeric_limits<float>::infinity();
    Order expected(scores.size());
    std::iota(expected.begin(), expected.end(), 0u);
    std::stable_sort(expected.begin(), expected.end(),
                     [&](auto a, auto b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a > b; });
    for (const std::size_t n : {1, 2, 600, 2500, 4997, 4999}) {
      Order best(expected.begin(), expected.begin() + (std::ptrdiff_t)n);
      std::sort(best.begin(), best.end());
      EXPECT_EQ(top(scores, n), best) << n << " of steps of " << step;
    }
  }
}

TEST(Top, WhatIsNoNumberGoesFirst) {
  const float none = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(top(Scores{none, 1, none, 3, 2}, 3), (Order{1, 3, 4}));
  EXPECT_EQ(top(Scores{none, 1, none, 3, 2}, 4), (Order{1, 2, 3, 4}));
  EXPECT_EQ(top(Scores(100, none), 7).size(), 7u);
}

TEST(Lowest, IsAlwaysAnIndex) {
  const float none = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(lowest(Scores{none, 2, 1, none}), 2u);
  EXPECT_EQ(lowest(Scores(40, none)), 0u);
  Scores many(40, none);
  many[33] = 5;
  EXPECT_EQ(lowest(many), 33u);
}

TEST(Lowest, IsTheFirstOfTheLowest) {
  for (const std::size_t n : {1, 5, 16, 17, 40}) {
    for (std::size_t at = 0; at < n; ++at) {
      Scores scores(n, 2.0f);
      scores[at] = scores[n - 1] = -1;
      EXPECT_EQ(lowest(scores), at) << n;
    }
  }
}

}  // namespace
}  // namespace lacake
