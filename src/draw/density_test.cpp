#include "draw/density.h"

#include <gtest/gtest.h>

#include <numeric>

namespace lacake::draw {
namespace {

TEST(Density, IsTheShareOfEachBucketThatIsKept) {
  EXPECT_EQ(density({{0, 1, 2, 3, 4, 8}}, 12, 3), (std::vector<double>{1.0, 0.25, 0.25}));
}

TEST(Density, AveragesHeads) { EXPECT_EQ(density({{0, 1}, {}}, 4, 2), (std::vector<double>{0.5, 0.0})); }

TEST(Density, CountsADuplicateOnceAndIgnoresOrder) {
  EXPECT_EQ(density({{3, 0, 3}}, 4, 2), (std::vector<double>{0.5, 0.5}));
}

TEST(Density, IsOneEverywhereWhenAllIsKeptHoweverBucketsDivide) {
  for (const std::size_t n_tokens : {1U, 2U, 7U, 64U, 97U, 1000U}) {
    std::vector<std::int64_t> all(n_tokens);
    std::iota(all.begin(), all.end(), 0);
    for (const std::size_t n_buckets : {1U, 3U, 7U, 60U}) {
      const auto shares = density({all}, n_tokens, n_buckets);
      EXPECT_EQ(shares, std::vector<double>(std::min(n_tokens, n_buckets), 1.0)) << n_tokens << " in " << n_buckets;
    }
  }
}

TEST(Density, IsEmptyWithoutTokens) { EXPECT_TRUE(density({{}}, 0, 10).empty()); }

TEST(GlyphRow, ShowsASingleKeptTokenAndOnlyNothingAsBlank) {
  const std::vector<double> shares = {0, 1e-6, 0.2, 0.5, 0.9, 1};
  EXPECT_EQ(glyph_row(shares, Glyphs::kAscii), " .:+*#");
  EXPECT_EQ(glyph_row(shares, Glyphs::kBlocks), " ·░▒▓█");
}

TEST(GlyphLegend, NamesEveryCharacter) {
  EXPECT_EQ(glyph_legend(Glyphs::kAscii), ". <10%  : <35%  + <65%  * <95%  # >=95%");
}

TEST(PositionScale, PutsRoundNumbersAtTheirColumns) {
  EXPECT_EQ(position_scale(4000, 40), "0         1000      2000      3000");
  EXPECT_EQ(position_scale(3, 40), "0");
}

TEST(PositionScale, NeverExceedsItsWidth) {
  for (std::size_t n_tokens = 1; n_tokens < 3000; n_tokens += 37) {
    for (const std::size_t width : {1U, 5U, 20U, 60U}) EXPECT_LE(position_scale(n_tokens, width).size(), width);
  }
}

TEST(RoundStep, IsTheSmallestRoundNumberThatIsCoarseEnough) {
  EXPECT_EQ(round_step(6000, 8), 1000U);
  EXPECT_EQ(round_step(6000, 12), 500U);
  EXPECT_EQ(round_step(7, 10), 1U);
}

}  // namespace
}  // namespace lacake::draw
