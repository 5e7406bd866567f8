#include "policies/keydiff/keydiff.h"

#include <gtest/gtest.h>

#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 1, .n_head = 1, .n_head_kv = 1};

// The simulated cache takes similarities from the attention source: here entry i has i mod 4 quarters.
std::vector<float> quarters(int, std::size_t n_entries, std::size_t) {
  std::vector<float> row(n_entries);
  for (std::size_t i = 0; i < n_entries; ++i) row[i] = 0.25f * (float)(i % 4);
  return row;
}

TEST(KeyDiff, KeepsTheKeysLeastLikeTheMeanAndTheNewest) {
  const auto p = keydiff_policy().make({}, kShape, 4);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 12, quarters);
  EXPECT_EQ(cache.held(0), (PositionList{0, 4, 8, 11}));
}

TEST(KeyDiffDecode, DropsSeveralAtOnceAndThenWaits) {
  const auto p = keydiff_policy().make({{"evict_fraction", 0.25}}, kShape, 16);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 16, quarters);
  std::vector<std::size_t> lengths;
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(p->measures(Phase::kDecode, 0, cache.length(0) + 1, 1).key_similarity, cache.length(0) == 16);
    cache.feed(*p, Phase::kDecode, 1, quarters);
    lengths.push_back(cache.length(0));
  }
  EXPECT_EQ(lengths, (std::vector<std::size_t>{13, 14, 15, 16, 13, 14}));
}

TEST(KeyDiffDecode, OneByOneWhereSoAsked) {
  const auto p = keydiff_policy().make({{"evict_fraction", 0}}, kShape, 8);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 30, quarters);
  for (int i = 0; i < 3; ++i) {
    cache.feed(*p, Phase::kDecode, 1, quarters);
    EXPECT_EQ(cache.length(0), 8u);
  }
}

TEST(KeyDiff, AsksForNothingOfAttention) {
  const auto p = keydiff_policy().make({}, kShape, 8);
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 9, 9), (Measures{.key_similarity = true}));
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 8, 8), Measures{});
}

}  // namespace
}  // namespace lacake
