#include "policies/cake/score.h"

#include <gtest/gtest.h>

namespace lacake::cake {
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

TEST(Rank, OfNothingIsNothing) { EXPECT_EQ(rank(Scores{1, 2}, 0), Order{}); }

}  // namespace
}  // namespace lacake::cake
