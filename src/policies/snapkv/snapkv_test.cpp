#include "policies/snapkv/snapkv.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "lacake/error.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::AttentionSource;
using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kOneHead{.n_layer = 1, .n_head = 1, .n_head_kv = 1};
constexpr AttentionShape kTwoHeads{.n_layer = 1, .n_head = 4, .n_head_kv = 2};
constexpr std::size_t kCacheSize = 8;

std::unique_ptr<Policy> policy(const AttentionShape& shape, PolicySettings more = {}) {
  more.emplace("window", 2);
  return snapkv_policy().make(more, shape, kCacheSize);
}

// Every query of head h attends to entry `entries[h]`, with the head's own strength.
AttentionSource attends_to(std::vector<std::size_t> entries, std::vector<float> strength = {0.5f, 0.5f, 0.5f, 0.5f}) {
  return [=](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * entries.size(), 0.0f);
    for (std::size_t r = 0; r < n_rows * entries.size(); ++r) {
      rows[r * n_entries + entries[r / n_rows]] = strength[r / n_rows];
    }
    return rows;
  };
}

bool holds(const PositionList& held, std::int64_t position) {
  return std::find(held.begin(), held.end(), position) != held.end();
}

TEST(SnapKv, KeepsTheAttendedEntryItsNeighboursAndTheWindowInOrder) {
  const auto p = policy(kOneHead);
  SimulatedCache cache(kOneHead, p->traits());
  cache.feed(*p, Phase::kPrefill, 20, attends_to({9}));
  // Five pooled scores agree; the sixth place goes to the newest of the rest, which are equal.
  EXPECT_EQ(cache.held(0), (PositionList{7, 8, 9, 10, 11, 17, 18, 19}));
}

TEST(SnapKv, EachKvHeadKeepsWhatItsGroupSaw) {
  const auto p = policy(kTwoHeads);
  SimulatedCache cache(kTwoHeads, p->traits());
  cache.feed(*p, Phase::kPrefill, 30, attends_to({5, 5, 20, 12}, {0.5f, 0.5f, 0.5f, 0.25f}));
  EXPECT_EQ(cache.held(0, 0), (PositionList{3, 4, 5, 6, 7, 27, 28, 29}));
  EXPECT_EQ(cache.held(0, 1), (PositionList{14, 18, 19, 20, 21, 22, 28, 29}));
}

TEST(SnapKv, AsksForNothingWhileAllFits) {
  const auto p = policy(kOneHead);
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 8, 8), Measures{});
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 9, 9), (Measures{.window = 2, .group_mean = true}));
  EXPECT_EQ(p->measures(Phase::kDecode, 0, 1, 1), Measures{});
}

TEST(SnapKvDecode, AMeanForgetsSlowlyARowAtOnceAndFrozenNever) {
  // The prompt saw 9, every query of the answer sees the entry that is now first in the cache.
  const auto after = [](const char* decode) {
    const auto p = policy(kOneHead, {{"decode", decode}});
    SimulatedCache cache(kOneHead, p->traits());
    cache.feed(*p, Phase::kPrefill, 20, attends_to({9}));
    for (int i = 0; i < 4; ++i) cache.feed(*p, Phase::kDecode, 1, attends_to({0}));
    return cache.held(0);
  };
  EXPECT_EQ(after("frozen"), (PositionList{7, 8, 9, 10, 11, 21, 22, 23}));  // 21 was the last to leave the window
  EXPECT_TRUE(holds(after("mean"), 7));
  EXPECT_FALSE(holds(after("row"), 10));
}

TEST(SnapKvTurns, OldScoresLiveOnDecayed) {
  for (const double decay : {0.9, 0.0}) {
    const auto p = policy(kOneHead, {{"decay", decay}});
    SimulatedCache cache(kOneHead, p->traits());
    cache.feed(*p, Phase::kPrefill, 20, attends_to({9}));
    cache.feed(*p, Phase::kPrefill, 12, attends_to({14}, {0.05f}));
    int n_old = 0;
    for (int position = 7; position <= 11; ++position) n_old += holds(cache.held(0), position) ? 1 : 0;
    EXPECT_EQ(n_old, decay > 0 ? 5 : 0) << "decay " << decay;
  }
}

TEST(SnapKvHeads, AdaptiveHeadsShareTheLayerAndNoneGoesBelowTheFloor) {
  // KV head 0 sees one entry sharply, KV head 1 nothing at all.
  const auto p = policy(kTwoHeads, {{"heads", "adaptive"}, {"floor", 0.5}});
  SimulatedCache cache(kTwoHeads, p->traits());
  cache.feed(*p, Phase::kPrefill, 40, [](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 4, 0.0f);
    for (std::size_t r = 0; r < n_rows * 2; ++r) {
      for (std::size_t i = 10; i < 20; ++i) rows[r * n_entries + i] = 0.1f;
    }
    return rows;
  });
  EXPECT_EQ(cache.held(0, 0).size() + cache.held(0, 1).size(), 2 * kCacheSize);
  EXPECT_EQ(cache.held(0, 1).size(), 2 + 3u);  // the window, and half of 6
  EXPECT_EQ(p->reserve(0, 0) + p->reserve(0, 1), 2 * (kCacheSize + 1));
  for (int i = 0; i < 5; ++i) cache.feed(*p, Phase::kDecode, 1, {attends_to({0, 0, 0, 0})});
  EXPECT_EQ(cache.held(0, 1).size(), 5u);
}

TEST(SnapKvHeads, AdaptiveAndIndexedPositionsAreRefusedTogether) {
  EXPECT_THROW(policy(kTwoHeads, {{"heads", "adaptive"}, {"positions", "compacted"}}), Error);
  EXPECT_EQ(policy(kTwoHeads, {{"positions", "compacted"}})->traits().positions, Positions::kCompacted);
}

TEST(SnapKv, NeedsOneEntryBesideItsWindow) {
  EXPECT_EQ(snapkv_policy().min_cache_size({{"window", 5}}, kOneHead), 6u);
  EXPECT_THROW(snapkv_policy().make({{"window", 8}}, kOneHead, 8), Error);
}

}  // namespace
}  // namespace lacake
