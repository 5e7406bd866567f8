#include "policies/layer_defensive/layer_defensive.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "lacake/error.h"
#include "policies/layer_defensive/defence.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::AttentionSource;
using simulation::PositionList;
using simulation::SimulatedCache;

TEST(Defence, NoEntryIsBelowTheMean) {
  std::vector<float> peaks = {0, 1, 5, 2};
  defence::raise_to_mean(peaks);
  EXPECT_EQ(peaks, (std::vector<float>{2, 2, 5, 2}));
}

TEST(Defence, AValueCountsForItsPartOfItsToken) {
  EXPECT_EQ(defence::part(std::vector<float>{1, 3}, 1), 0.75f);
  EXPECT_EQ(defence::part(std::vector<float>{5}, 0), 1.0f);
  EXPECT_EQ(defence::part(std::vector<float>{0, 0}, 1), 0.5f);
}

TEST(Defence, ForcesWhatStaysBelowTheShareAndNotWhatCrossesIt) {
  const std::vector<float> attention = {1, 5, 2, 2};
  EXPECT_EQ(defence::n_within(attention, 0.45), 0u);
  EXPECT_EQ(defence::n_within(attention, 0.55), 1u);
  EXPECT_EQ(defence::n_within(attention, 0.75), 2u);
  EXPECT_EQ(defence::n_within(attention, -1), 0u);
  EXPECT_EQ(defence::n_within(attention, 2), 0u);
  EXPECT_EQ(defence::most_attended(attention, 2), (std::vector<std::size_t>{1, 2}));
}

TEST(Defence, AKeptShareLosesTheAuthorsLastBit) {
  EXPECT_EQ((std::size_t)(200 * defence::kept_share(20, 200)), 19u);
  EXPECT_EQ(defence::kept_share(50, 200), 0.25);
}

// 20 entries before a window of 4, of which 8 stay: at most 20 * 8 / 24 - 4 = 2 are forced.
TEST(Defence, ScoresOneLayer) {
  std::vector<float> attention(20, 0.001f), peaks(20, 0.01f), weights(20, 0.5f);
  attention[3] = attention[4] = attention[5] = 0.2f;
  peaks[9] = 0.8f;
  weights[3] = 0.1f;
  const defence::List list{attention, peaks, weights, 24};
  defence::Rule rule{.window = 4, .forced = 0.9, .cache_size = 8};
  const defence::Scored scored = defence::score_layer({&list, 1}, rule);
  EXPECT_EQ(scored.best, 0.4f);
  EXPECT_EQ(scored.n_forced[0], 2);
  EXPECT_EQ(scored.lists[0][3], 0.4f);
  EXPECT_EQ(scored.lists[0][4], 0.4f);
  EXPECT_FLOAT_EQ(scored.lists[0][5], 0.5f * (0.8f + 19 * 0.01f) / 20);  // the mean of peaks
  EXPECT_EQ(scored.lists[0][9], 0.4f);
  EXPECT_EQ(scored.lists[0][23], 0.4f);

  // Of 24 entries 3 stay: the limit is -1.5, rounded to 0; of 2, -2.3.
  for (const bool guards : {true, false}) {
    rule.guards = guards;
    rule.cache_size = 2;
    const defence::Scored little = defence::score_layer({&list, 1}, rule);
    EXPECT_EQ(little.n_forced[0], guards ? 0 : -2);
    EXPECT_EQ(std::count(little.lists[0].begin(), little.lists[0].begin() + 20, 0.4f), guards ? 1 : 18 + 0);
  }
}

constexpr AttentionShape kTwoLayers{.n_layer = 2, .n_head = 2, .n_head_kv = 2};

// Layer `sharp` has queries that see single entries, the other one sees everything alike.
AttentionSource sharp_in(int sharp) {
  return [=](int layer, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 2, 1.0f / (float)n_entries);
    for (std::size_t r = 0; r < n_rows * 2 && layer == sharp; ++r) {
      std::fill_n(rows.begin() + (std::ptrdiff_t)(r * n_entries), n_entries, 0.0f);
      rows[r * n_entries + (r * 5 + 3) % (n_entries - n_rows)] = 1;
    }
    return rows;
  };
}

PolicySettings settings(PolicySettings more = {}) {
  more.emplace("window", 4);
  more.emplace("sinks", 2);
  more.emplace("forced", 0);
  return more;
}

std::size_t n_held(const SimulatedCache& cache, int layer) {
  return cache.held(layer, 0).size() + cache.held(layer, 1).size();
}

TEST(LayerDefensive, GivesTheEntriesToTheLayerThatNeedsThem) {
  for (const int sharp : {0, 1}) {
    const auto p = layer_defensive_policy().make(settings(), kTwoLayers, 12);
    SimulatedCache cache(kTwoLayers, p->traits());
    cache.feed(*p, Phase::kPrefill, 60, sharp_in(sharp));
    EXPECT_EQ(n_held(cache, 0) + n_held(cache, 1), 4 * 12u);
    EXPECT_GT(n_held(cache, sharp), n_held(cache, 1 - sharp));
    EXPECT_GE(cache.held(1 - sharp, 0).size(), 6u);  // sinks and window
  }
}

TEST(LayerDefensive, EachLayerByItselfIsDefensiveKv) {
  const auto p = layer_defensive_policy().make(settings({{"heads", "adaptive"}}), kTwoLayers, 12);
  SimulatedCache cache(kTwoLayers, p->traits());
  cache.feed(*p, Phase::kPrefill, 60, sharp_in(0));
  EXPECT_EQ(n_held(cache, 0), 24u);
  EXPECT_EQ(n_held(cache, 1), 24u);
}

// One query of four sees entry 20: a mean of the rows would rank it below the neighbours of 10, which all see a little.
TEST(LayerDefensive, WhatASingleQuerySawStays) {
  const AttentionShape shape{.n_layer = 1, .n_head = 1, .n_head_kv = 1};
  const auto p = layer_defensive_policy().make(settings(), shape, 12);
  SimulatedCache cache(shape, p->traits());
  cache.feed(*p, Phase::kPrefill, 60, [](int, std::size_t n, std::size_t n_rows) {
    std::vector<float> rows(n * n_rows, 0.0f);
    for (std::size_t r = 0; r < n_rows; ++r) {
      for (std::size_t i = 5; i < 50; ++i) rows[r * n + i] = 0.02f;
    }
    rows[20] = 0.9f;
    return rows;
  });
  const PositionList& held = cache.held(0);
  for (const std::int64_t token : {18, 19, 20, 21, 22})
    EXPECT_TRUE(std::binary_search(held.begin(), held.end(), token));
}

TEST(LayerDefensive, AsksForItsMeasuresWhereAPromptIsCut) {
  const auto p = layer_defensive_policy().make(settings(), kTwoLayers, 12);
  Measures expected{.window = 4, .group_mean = true, .window_peak = true, .value_norm = ValueNorm::kOutputSum};
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 60, 60), expected);
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 12, 12), Measures{});
  EXPECT_EQ(p->measures(Phase::kDecode, 0, 12, 1), Measures{});
  expected.value_norm = ValueNorm::kOutput;
  EXPECT_EQ(layer_defensive_policy()
                .make(settings({{"norm", "length"}}), kTwoLayers, 12)
                ->measures(Phase::kPrefill, 1, 60, 60),
            expected);
}

// A value's part is that of its token: where heads hold different tokens, what it was when it came.
TEST(LayerDefensiveTurns, StaysWithinItsSizeAndKeepsTheWindow) {
  const auto p = layer_defensive_policy().make(settings(), kTwoLayers, 12);
  SimulatedCache cache(kTwoLayers, p->traits());
  for (int turn = 0; turn < 4; ++turn) {
    cache.feed(*p, Phase::kPrefill, 25, sharp_in(turn % 2));
    for (int i = 0; i < 9; ++i) cache.feed(*p, Phase::kDecode, 1, sharp_in(0));
    EXPECT_LE(n_held(cache, 0) + n_held(cache, 1), 4 * 12u + 2);
    for (int layer = 0; layer < 2; ++layer) EXPECT_EQ(cache.held(layer, 1).back(), cache.n_past() - 1);
  }
}

TEST(LayerDefensive, NeedsOneEntryBesideSinksAndWindow) {
  EXPECT_EQ(layer_defensive_policy().min_cache_size(settings(), kTwoLayers), 7u);
  EXPECT_THROW(layer_defensive_policy().make(settings(), kTwoLayers, 6), Error);
}

}  // namespace
}  // namespace lacake
