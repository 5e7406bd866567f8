#include "policies/trellis/memory.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace lacake::trellis {
namespace {

using Tokens = std::vector<std::int64_t>;
using Indices = std::vector<std::uint32_t>;

std::vector<float> indicators(const Memory& memory, float spread) {
  std::vector<float> scores(memory.size());
  memory.indicators(spread, scores);
  return scores;
}

TEST(Memory, BeginsWithTheFirstObservation) {
  Memory memory;
  memory.grow(2, 0);
  memory.see_row(std::vector<float>{0.5f, 0.25f}, 0.1f);
  EXPECT_EQ(indicators(memory, 1), (std::vector<float>{0.5f, 0.25f}));  // one observation deviates from nothing
}

TEST(Memory, FadesOlderObservations) {
  Memory memory;
  memory.grow(1, 0);
  // Weights 1/2 (1 - 1/2)^age over their sum: 1/3 of the older, 2/3 of the newer.
  memory.see_row(std::vector<float>{0.9f}, 0.5f);
  memory.see_row(std::vector<float>{0.0f}, 0.5f);
  EXPECT_NEAR(indicators(memory, 0)[0], 0.3f, 1e-6f);
}

TEST(Memory, AddsTheSpreadOfWhatWasReceived) {
  Memory memory;
  memory.grow(1, 0);
  memory.see_row(std::vector<float>{0.9f}, 0.5f);
  memory.see_row(std::vector<float>{0.0f}, 0.5f);
  // Variance 1/3 (0.9 - 0.3)^2 + 2/3 (0.3)^2 = 0.18
  EXPECT_NEAR(indicators(memory, 2)[0], 0.3f + 2 * std::sqrt(0.18f), 1e-5f);
}

TEST(Memory, KeepsTheLargerOfAFurtherPromptAndWhatFaded) {
  Memory memory;
  memory.grow(2, 0);
  memory.see_prompt(std::vector<float>{0.8f, 0.1f}, 1);
  memory.see_prompt(std::vector<float>{0.2f, 0.3f}, 0.5f);
  EXPECT_EQ(indicators(memory, 0), (std::vector<float>{0.4f, 0.3f}));
}

TEST(Memory, MovesEverythingWithTheEntriesThatStay) {
  Memory memory;
  memory.grow(3, 10);
  memory.see_row(std::vector<float>{0.1f, 0.2f, 0.3f}, 0.5f);
  memory.see_row(std::vector<float>{0.1f, 0.2f, 0.9f}, 0.5f);
  const float third = indicators(memory, 1)[2];
  memory.keep(Indices{0, 2});
  EXPECT_EQ(Tokens(memory.tokens().begin(), memory.tokens().end()), (Tokens{10, 12}));
  EXPECT_EQ(indicators(memory, 1)[1], third);
  // The next observation continues what stayed: its weights move along.
  memory.grow(1, 13);
  memory.see_row(std::vector<float>{0.1f, 0.0f, 0.6f}, 0.5f);
  EXPECT_NEAR(indicators(memory, 0)[1], (0.3f + 2 * 0.9f) / 7, 1e-6f);
  EXPECT_NEAR(indicators(memory, 0)[2], 0.6f, 1e-6f);
}

TEST(Rungs, TakeTheBestOfEachRegion) {
  const Tokens tokens = {0, 1, 2, 5, 6, 9};
  const std::vector<float> scores = {3, 1, 2, 4, 5, 0};
  // Regions 0-3, 4-7, 8-11.
  EXPECT_EQ(rungs(tokens, scores, 12, 3, 0), (Indices{0, 4, 5}));
}

TEST(Rungs, AreShiftedFromLayerToLayer) {
  const Tokens tokens = {0, 1, 2, 3, 4, 5, 6, 7};
  const std::vector<float> scores = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(rungs(tokens, scores, 8, 2, 0), (Indices{3, 7}));
  EXPECT_EQ(rungs(tokens, scores, 8, 2, 0.5), (Indices{1, 5, 7}));  // 0-1, 2-5, 6-7
}

TEST(Rungs, AreNoneWithoutRegions) { EXPECT_TRUE(rungs(Tokens{0, 1}, std::vector<float>{1, 2}, 2, 0, 0.5).empty()); }

}  // namespace
}  // namespace lacake::trellis
