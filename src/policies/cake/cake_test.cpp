#include "policies/cake/cake.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "lacake/error.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::AttentionSource;
using simulation::PositionList;
using simulation::SimulatedCache;

constexpr std::size_t kWindow = 2;
constexpr std::size_t kCacheSize = 8;

AttentionShape layers(int n_layer) { return {.n_layer = n_layer, .n_head = 1, .n_head_kv = 1}; }

std::unique_ptr<Policy> policy(int n_layer, PolicySettings more = {}) {
  more["window"] = kWindow;
  return cake_policy().make(more, layers(n_layer), kCacheSize);
}

std::size_t budget(const Policy& p, int layer) { return dynamic_cast<const cake::Cake&>(p).budget(layer); }

// Every row attends to `entry`, in turn more and less by `swing`. Powers of two, so that ties are ties.
AttentionSource attends_to(std::size_t entry, float swing = 0.125f) {
  return [=](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows, 0.0078125f);
    for (std::size_t r = 0; r < n_rows; ++r) rows[r * n_entries + entry] = 0.5f + (r % 2 == 0 ? swing : -swing);
    return rows;
  };
}

// The same in every layer, but swinging more in later ones.
AttentionSource later_layers_swing_more(std::size_t entry) {
  return [=](int layer, std::size_t n_entries, std::size_t n_rows) {
    return attends_to(entry, 0.125f * (float)(layer + 1))(layer, n_entries, n_rows);
  };
}

std::vector<float> weakly_to_the_sixth_last(int, std::size_t n_entries, std::size_t n_rows) {
  std::vector<float> rows(n_entries * n_rows, 0.001f);
  for (std::size_t r = 0; r < n_rows; ++r) rows[r * n_entries + n_entries - 6] = 0.01f;
  return rows;
}

bool holds(const SimulatedCache& cache, int layer, std::int64_t position) {
  const PositionList& held = cache.held(layer);
  return std::find(held.begin(), held.end(), position) != held.end();
}

TEST(Cake, AsksForNothingWhileAllFits) {
  const auto p = policy(2);
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 10, 10), Measures{});
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 11, 11), Measures{.window = 2});
  EXPECT_EQ(p->measures(Phase::kDecode, 0, kCacheSize, 1), Measures{});
  EXPECT_EQ(p->measures(Phase::kDecode, 0, kCacheSize + 1, 1), Measures{.window = 1});
}

TEST(Cake, KeepsTheAttendedEntryItsNeighboursAndTheWindow) {
  const auto p = policy(1);
  SimulatedCache cache(layers(1), p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
  // Five pooled scores agree; the sixth place goes to the first of the rest that are equal.
  EXPECT_EQ(cache.held(0), (PositionList{7, 8, 9, 10, 11, 2, 18, 19}));
}

TEST(Cake, LayersThatShiftMoreGetMore) {
  const auto p = policy(3);
  SimulatedCache cache(layers(3), p->traits());
  cache.feed(*p, Phase::kPrefill, 40, later_layers_swing_more(9));
  EXPECT_LT(budget(*p, 0), budget(*p, 1));
  EXPECT_LT(budget(*p, 1), budget(*p, 2));
  EXPECT_EQ(budget(*p, 0) + budget(*p, 1) + budget(*p, 2), 3 * (kCacheSize - kWindow));
}

TEST(Cake, UniformBudgetsIgnoreWhatAttentionLooksLike) {
  const auto p = policy(3, {{"budgets", "uniform"}});
  SimulatedCache cache(layers(3), p->traits());
  cache.feed(*p, Phase::kPrefill, 40, later_layers_swing_more(9));
  for (int layer = 0; layer < 3; ++layer) EXPECT_EQ(budget(*p, layer), kCacheSize - kWindow);
}

TEST(CakeByPosition, KeepsTheSameEntriesInTheOrderOfTheConversation) {
  const auto p = policy(1, {{"order", "position"}});
  SimulatedCache cache(layers(1), p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
  EXPECT_EQ(cache.held(0), (PositionList{7, 8, 9, 10, 11, 15, 18, 19}));
}

TEST(CakeByPosition, DecodingPoolsOverNeighboursInTheText) {
  const auto p = policy(1, {{"order", "position"}});
  SimulatedCache cache(layers(1), p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
  // 7 8 9 10 11 15 18 | 19 20: the row points at the third, and the seventh is farthest from its pool.
  cache.feed(*p, Phase::kDecode, 1, attends_to(2));
  EXPECT_EQ(cache.held(0), (PositionList{7, 8, 9, 10, 11, 15, 19, 20}));
  EXPECT_EQ(p->measures(Phase::kDecode, 0, 9, 1), (Measures{.window = 1, .group_mean = true}));
}

TEST(CakeByPosition, IndicesTakeTheOrderOfTheConversation) {
  const auto p = policy(1, {{"positions", "compacted"}});
  EXPECT_TRUE(p->traits().ordered);
  EXPECT_EQ(p->traits().positions, Positions::kCompacted);
}

TEST(Cascade, NeverExceedsTheTotalNorLeavesItToTheEnd) {
  for (const bool chunked : {false, true}) {
    const auto p = policy(5);
    SimulatedCache cache(layers(5), p->traits());
    std::size_t most = 0;
    const auto watch = [&](int) { most = std::max(most, cache.total_length()); };
    if (chunked) {
      cache.feed(*p, Phase::kPrefill, 30, later_layers_swing_more(9));
      for (int i = 0; i < 4; ++i) cache.feed(*p, Phase::kPrefill, 15, later_layers_swing_more(3), watch);
    } else {
      cache.feed(*p, Phase::kPrefill, 60, later_layers_swing_more(9), watch);
    }
    EXPECT_LE(most, 5 * kCacheSize) << (chunked ? "in chunks" : "at once");
    EXPECT_GE(most, 4 * kCacheSize) << (chunked ? "in chunks" : "at once");
  }
}

TEST(Cascade, WithoutItAllLayersWaitForTheLast) {
  const auto p = policy(3, {{"cascade", "off"}});
  SimulatedCache cache(layers(3), p->traits());
  std::vector<std::size_t> totals;
  cache.feed(*p, Phase::kPrefill, 40, attends_to(9), [&](int) { totals.push_back(cache.total_length()); });
  EXPECT_EQ(totals, (std::vector<std::size_t>{40, 80, 3 * kCacheSize}));
}

TEST(CakeDecode, DropsByTheCurrentRowAlone) {
  const auto p = policy(1);
  SimulatedCache cache(layers(1), p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
  // Stored order 7 8 9 10 11 2 18 | 19 20: the row points at the sixth, so the first falls out of its pool.
  cache.feed(*p, Phase::kDecode, 1, attends_to(5));
  EXPECT_EQ(cache.length(0), kCacheSize);
  EXPECT_FALSE(holds(cache, 0, 7));
  EXPECT_TRUE(holds(cache, 0, 2));
  EXPECT_EQ(cache.held(0).back(), 20);
}

TEST(CakeDecode, AFullLayerDropsAShareAtOnceAndIsThenLeftAlone) {
  const auto p = policy(1, {{"evict_fraction", 0.25}});
  SimulatedCache cache(layers(1), p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
  // Stored order 7 8 9 10 11 2 18 | 19 20, and those of the row's pool stay, highest first; of equal ones the first.
  cache.feed(*p, Phase::kDecode, 1, attends_to(5));
  EXPECT_EQ(cache.held(0), (PositionList{10, 11, 2, 18, 9, 19, 20}));
  EXPECT_EQ(p->measures(Phase::kDecode, 0, kCacheSize, 1), Measures{});
  cache.feed(*p, Phase::kDecode, 1, {});
  EXPECT_EQ(cache.held(0), (PositionList{10, 11, 2, 18, 9, 19, 20, 21}));
  EXPECT_EQ(p->measures(Phase::kDecode, 0, kCacheSize + 1, 1), Measures{.window = 1});
}

TEST(CakeDecode, AShortPromptGrowsToItsCacheSize) {
  const auto p = policy(2);
  SimulatedCache cache(layers(2), p->traits());
  cache.feed(*p, Phase::kPrefill, 5, {});
  for (int i = 0; i < 3; ++i) cache.feed(*p, Phase::kDecode, 1, {});
  EXPECT_EQ(cache.n_selections(), 0u);
  cache.feed(*p, Phase::kDecode, 1, attends_to(0));
  EXPECT_EQ(cache.length(0), kCacheSize);
}

TEST(CakeDecode, APromptLongerThanItsCacheSizeIsCutByTheFirstStep) {
  // Nothing goes at C + W, the official quirk; then C stay.
  const auto p = policy(2);
  SimulatedCache cache(layers(2), p->traits());
  cache.feed(*p, Phase::kPrefill, kCacheSize + kWindow, {});
  EXPECT_EQ(cache.length(0), kCacheSize + kWindow);
  cache.feed(*p, Phase::kDecode, 1, attends_to(4));
  EXPECT_EQ(cache.length(0), kCacheSize);
}

TEST(CakeTurns, OldScoresLiveOnDecayed) {
  // The second turn looks elsewhere, at a fiftieth of the strength: old favourites outlive it.
  for (const double decay : {0.9, 0.0}) {
    const auto p = policy(1, {{"decay", decay}, {"gamma", 0}});
    SimulatedCache cache(layers(1), p->traits());
    cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
    cache.feed(*p, Phase::kPrefill, 12, weakly_to_the_sixth_last);
    int n_old = 0;
    for (int position = 7; position <= 11; ++position) n_old += holds(cache, 0, position) ? 1 : 0;
    EXPECT_EQ(n_old, decay > 0 ? 5 : 1) << "decay " << decay;
  }
}

TEST(CakeTurns, LayersNotYetReachedAreCutByTheirOldScores) {
  const auto p = policy(2);
  SimulatedCache cache(layers(2), p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
  const PositionList before = cache.held(1);
  // Layer 0 shifts less than before, layer 1 more: what layer 1 holds must not be dropped for layer 0's chunk.
  std::vector<std::size_t> totals;
  cache.feed(*p, Phase::kPrefill, 10, later_layers_swing_more(3), [&](int layer) {
    totals.push_back(cache.total_length());
    if (layer == 0) {
      EXPECT_TRUE(holds(cache, 1, before.front()));
    }
  });
  EXPECT_LE(*std::max_element(totals.begin(), totals.end()), 2 * kCacheSize);
  EXPECT_GT(budget(*p, 1), budget(*p, 0));
}

TEST(CakeTurns, AChunkedPromptDropsNothingBlindly) {
  // The first chunk fits and was never scored: the second must not cut layer 1 before it is seen.
  const auto p = policy(2);
  SimulatedCache cache(layers(2), p->traits());
  cache.feed(*p, Phase::kPrefill, 10, {});
  cache.feed(*p, Phase::kPrefill, 10, attends_to(9), [&](int layer) {
    if (layer == 0) {
      EXPECT_EQ(cache.length(1), 10u);
    }
  });
  EXPECT_EQ(cache.length(1), kCacheSize);
}

TEST(CakeTurns, ATurnOfOneTokenLeavesPreferencesAsTheyAre) {
  const auto p = policy(2);
  SimulatedCache cache(layers(2), p->traits());
  cache.feed(*p, Phase::kPrefill, 30, later_layers_swing_more(9));
  const float before = dynamic_cast<const cake::Cake&>(*p).preference(1);
  cache.feed(*p, Phase::kPrefill, 1, attends_to(3));
  EXPECT_EQ(dynamic_cast<const cake::Cake&>(*p).preference(1), before);
  EXPECT_GT(before, 0);
}

TEST(CakeTurns, TheWholeTotalIsHandedOutAfterEveryChunk) {
  const auto p = policy(5);
  SimulatedCache cache(layers(5), p->traits());
  cache.feed(*p, Phase::kPrefill, 30, later_layers_swing_more(9));
  for (int turn = 0; turn < 12; ++turn) {
    // The layer that swings wanders, so that short layers are offered more than they have.
    const auto wandering = [turn](int layer, std::size_t n_entries, std::size_t n_rows) {
      return attends_to(2, layer == turn % 5 ? 0.375f : 0.0625f)(layer, n_entries, n_rows);
    };
    cache.feed(*p, Phase::kPrefill, 2, wandering);
    std::size_t sum = 0;
    for (int layer = 0; layer < 5; ++layer) sum += budget(*p, layer);
    EXPECT_EQ(sum, 5 * (kCacheSize - kWindow)) << "turn " << turn;
  }
}

TEST(CakeTurns, ScoresMoveAlongWhenDecodingReorders) {
  const auto p = policy(1, {{"gamma", 0}});
  SimulatedCache cache(layers(1), p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
  cache.feed(*p, Phase::kDecode, 1, attends_to(5));
  ASSERT_EQ(cache.held(0), (PositionList{10, 11, 2, 18, 9, 8, 19, 20}));
  cache.feed(*p, Phase::kPrefill, 12, weakly_to_the_sixth_last);
  for (int position = 8; position <= 11; ++position) EXPECT_TRUE(holds(cache, 0, position)) << position;
  EXPECT_FALSE(holds(cache, 0, 18));
}

TEST(Cake, NeedsOneEntryBesideItsWindow) {
  EXPECT_EQ(cake_policy().min_cache_size({{"window", 5}}, layers(1)), 6u);
  EXPECT_THROW(cake_policy().make({{"window", 8}}, layers(1), 8), Error);
}

TEST(Cake, ReservesTheDividedBudgetsOnceThePromptIsIn) {
  const auto p = policy(2);
  EXPECT_EQ(p->reserve(0, 0), kCacheSize + kWindow + 1);
  SimulatedCache cache(layers(2), p->traits());
  cache.feed(*p, Phase::kPrefill, 30, later_layers_swing_more(9));
  EXPECT_EQ(p->reserve(0, 0), budget(*p, 0) + kWindow + 1);
  EXPECT_EQ(p->reserve(0, 0) + p->reserve(1, 0), 2 * (kCacheSize + 1));
}

TEST(Cake, CountsItsScoresAsMetadata) {
  const auto p = policy(2);
  SimulatedCache cache(layers(2), p->traits());
  const std::size_t empty = p->metadata_bytes();
  cache.feed(*p, Phase::kPrefill, 30, attends_to(9));
  EXPECT_GE(p->metadata_bytes(), empty + 2 * (kCacheSize - kWindow) * sizeof(float));
}

TEST(Cake, SaysThatWithoutTheCascadeItKeepsThePromptWhole) {
  const auto on = policy(2), off = policy(2, {{"cascade", "off"}});
  EXPECT_EQ(on->peak_entries(0, 40), kCacheSize + kWindow);
  EXPECT_EQ(off->peak_entries(0, 40), 40u);
  EXPECT_EQ(off->peak_entries(8, 5), 13u);
  SimulatedCache cache(layers(2), off->traits());
  std::size_t most = 0;
  cache.feed(*off, Phase::kPrefill, 40, attends_to(9), [&](int) { most = std::max(most, cache.length(0)); });
  EXPECT_EQ(most, 40u);
}

TEST(CakeResized, KeepsWhatThePromptScoredHighestAndTheWindow) {
  const auto p = policy(1);
  SimulatedCache cache(layers(1), p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
  cache.resize(*p, 6);
  EXPECT_EQ(cache.held(0), (PositionList{7, 8, 9, 10, 18, 19}));
  EXPECT_EQ(budget(*p, 0), 4u);
}

TEST(CakeResized, DividesAnewByThePromptsPreferences) {
  const auto p = policy(3);
  SimulatedCache cache(layers(3), p->traits());
  cache.feed(*p, Phase::kPrefill, 40, later_layers_swing_more(9));
  cache.resize(*p, 5);
  EXPECT_LT(cache.length(0), cache.length(1));
  EXPECT_LT(cache.length(1), cache.length(2));
  EXPECT_EQ(cache.total_length(), 3 * 5u);
}

TEST(CakeResized, WithoutAnyScoresTheNewestStay) {
  const auto p = policy(1);
  SimulatedCache cache(layers(1), p->traits());
  cache.feed(*p, Phase::kPrefill, 9, attends_to(3));
  cache.resize(*p, 4);
  EXPECT_EQ(cache.held(0), (PositionList{5, 6, 7, 8}));
}

TEST(CakeResized, EntriesOfAnAnswerShrinkInProportionToThePrompts) {
  const auto p = policy(1);
  SimulatedCache cache(layers(1), p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to(9));
  cache.resize(*p, 14);
  for (int i = 0; i < 6; ++i) cache.feed(*p, Phase::kDecode, 1, attends_to(0));
  // Held: 7 8 9 10 11 2 18 19 and 20 .. 25, the last two of them the window; 18 .. 23 have no score.
  cache.resize(*p, 8);
  EXPECT_EQ(cache.held(0), (PositionList{7, 8, 9, 21, 22, 23, 24, 25}));
}

}  // namespace
}  // namespace lacake
