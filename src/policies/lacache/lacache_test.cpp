#include "policies/lacache/lacache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "lacake/error.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::PositionList;
using simulation::SimulatedCache;

AttentionShape layers(int n_layer) { return {.n_layer = n_layer, .n_head = 2, .n_head_kv = 1}; }

std::unique_ptr<Policy> policy(const PolicySettings& settings, int n_layer, std::size_t cache_size) {
  return lacache_policy().make(settings, layers(n_layer), cache_size);
}

TEST(LaCache, DropsNothingUpToItsCacheSize) {
  const auto p = policy({}, 4, 16);
  SimulatedCache cache(layers(4), p->traits());
  cache.feed(*p, Phase::kPrefill, 16, {});
  EXPECT_EQ(cache.n_selections(), 0u);
}

TEST(LaCache, LayersTogetherSpanMoreThanOneHolds) {
  const auto p = policy({{"sinks", 1}}, 2, 6);
  SimulatedCache cache(layers(2), p->traits());
  cache.feed(*p, Phase::kPrefill, 8, {});
  EXPECT_EQ(cache.held(0), (PositionList{0, 1, 3, 5, 6, 7}));
  EXPECT_EQ(cache.held(1), (PositionList{0, 2, 4, 5, 6, 7}));
}

TEST(LaCache, TheFirstOverflowRaisesTheCacheSizeOnce) {
  // R = 5: the cache grows by 2 before anything goes.
  const auto made = policy({{"span", 8}, {"overlap", 4}}, 30, 60);
  auto& p = dynamic_cast<lacache::LaCache&>(*made);
  SimulatedCache cache(layers(30), p.traits());
  cache.feed(p, Phase::kPrefill, 60, {});
  EXPECT_EQ(p.cache_size(), 60u);
  cache.feed(p, Phase::kDecode, 1, {});
  EXPECT_EQ(p.cache_size(), 62u);
  EXPECT_EQ(cache.length(0), 61u);
  for (int i = 0; i < 2; ++i) cache.feed(p, Phase::kDecode, 1, {});
  EXPECT_EQ(cache.length(0), 63u - 5u);
  EXPECT_EQ(p.cache_size(), 62u);
}

TEST(LaCache, TheQueryStandsAtItsOwnKeyUnlessTheScriptIsReplayed) {
  const auto own = policy({}, 4, 16);
  EXPECT_EQ(simulation::query_position(*own, 0, 11), 11);
  const auto script = policy({{"query", "script"}}, 4, 16);
  EXPECT_EQ(simulation::query_position(*script, 0, 0), 0);
}

TEST(LaCache, TheScriptsQueryDriftsAheadOfItsKey) {
  const auto p = policy({{"span", 8}, {"overlap", 4}, {"query", "script"}}, 30, 60);
  SimulatedCache cache(layers(30), p->traits());
  std::int64_t ahead = 0;
  for (int i = 0; i < 100; ++i) {
    const auto own = (std::int64_t)cache.length(0);
    cache.feed(*p, Phase::kDecode, 1, {});
    ahead = std::max(ahead, cache.query_position() - own);
  }
  EXPECT_EQ(ahead, 4);  // R - 1
}

TEST(LaCache, TheDefaultSpanSuitsTheModel) {
  for (int n_layer : {2, 3, 16, 22, 80})
    EXPECT_NO_THROW(lacache_policy().min_cache_size({}, layers(n_layer))) << n_layer;
  // 16 layers, span 8: R = 1 as in the paper's 32 with 16.
  EXPECT_EQ(lacache_policy().max_entries_per_layer({}, layers(16), 64), 65u);
}

TEST(LaCache, SettingsThatCannotRunAreRefusedBeforeAnythingRuns) {
  EXPECT_THROW(lacache_policy().min_cache_size({{"span", 16}}, layers(16)), Error);
  const std::size_t least = lacache_policy().min_cache_size({}, layers(32));
  EXPECT_THROW(policy({}, 32, least - 1), Error);
  EXPECT_NO_THROW(policy({}, 32, least));
}

TEST(LaCache, APromptThatCannotBeCompactedIsRefusedBeforeAttention) {
  const auto p = policy({{"span", 2}, {"overlap", 1}}, 4, 17);
  EXPECT_THROW(p->measures(Phase::kPrefill, 0, 57, 57), Error);
  EXPECT_NO_THROW(p->measures(Phase::kPrefill, 0, 40, 40));
}

TEST(LaCache, DeclaresWhenItsListsMayGoBackwards) {
  EXPECT_TRUE(policy({}, 32, 64)->traits().ordered);
  EXPECT_FALSE(policy({{"span", 9}, {"overlap", 3}}, 32, 64)->traits().ordered);
}

TEST(LaCache, ReservesTheRaisedSizeAndOneTokenInFlight) {
  const PolicySettings settings{{"span", 8}, {"overlap", 4}};
  EXPECT_EQ(lacache_policy().max_entries_per_layer(settings, layers(30), 256), 259u);
  EXPECT_EQ(policy(settings, 30, 256)->reserve(0, 0), 259u);
}

TEST(LaCacheResized, LayersStillKeepDifferentTokensWithoutGapsBetweenThem) {
  const auto p = policy({{"sinks", 1}}, 4, 40);
  SimulatedCache cache(layers(4), p->traits());
  cache.feed(*p, Phase::kPrefill, 60, {});
  cache.resize(*p, 12);
  std::vector<std::int64_t> all;
  for (int layer = 0; layer < 4; ++layer) {
    ASSERT_EQ(cache.length(layer), cache.length(0));
    all.insert(all.end(), cache.held(layer).begin(), cache.held(layer).end());
  }
  ASSERT_LE(cache.length(0), 12u);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  EXPECT_GT(all.size(), cache.length(0));
  EXPECT_EQ(cache.held(0).front(), 0);
  EXPECT_EQ(cache.held(3).back(), 59);
}

TEST(LaCache, TheDefaultSpanFollowsABudgetThatIsAShare) {
  const auto span = [](const PolicySettings& given, int n_layer, double share) {
    const PolicySettings more = lacache_policy().settings_at_opening(given, layers(n_layer), share);
    return more.empty() ? -1.0 : more.at("span").number();
  };
  EXPECT_EQ(span({}, 28, 0.5), 14);  // the paper's command
  EXPECT_EQ(span({}, 24, 0.25), 5);
  EXPECT_EQ(span({}, 28, 0.25), 6);
  EXPECT_EQ(span({}, 24, 0.1), 2);
  EXPECT_EQ(span({}, 40, 0.5), 20);
  EXPECT_EQ(span({}, 24, 0.9), 12);
  EXPECT_EQ(span({}, 24, 0.001), 1);
  EXPECT_EQ(span({{"overlap", 8}}, 24, 0.25), 9);
  EXPECT_EQ(span({{"span", 12}}, 24, 0.25), -1);
}

TEST(LaCache, WithTheDefaultSpanOfAShareEveryTokenStaysInSomeLayer) {
  constexpr std::size_t kTokens = 4000;
  const auto share_in_some = [](std::size_t span, double share) {
    const auto p = policy({{"span", span}}, 24, (std::size_t)(share * kTokens) - 1);
    SimulatedCache cache(layers(24), p->traits());
    cache.feed(*p, Phase::kPrefill, kTokens, {});
    std::set<std::int64_t> all;
    for (int layer = 0; layer < 24; ++layer) {
      const PositionList held = cache.held(layer);
      all.insert(held.begin(), held.end());
    }
    return (double)all.size() / kTokens;
  };
  for (const double share : {0.4, 0.3, 0.25, 0.2, 0.15, 0.1}) {
    const PolicySettings more = lacache_policy().settings_at_opening({}, layers(24), share);
    EXPECT_EQ(share_in_some((std::size_t)more.at("span").number(), share), 1) << share;
  }
  EXPECT_GT(share_in_some(12, 0.5), 0.98);
  EXPECT_LT(share_in_some(12, 0.25), 0.8);
  EXPECT_LT(share_in_some(8, 0.25), 0.6);
}

TEST(LaCacheResized, NeverFailsWhereAStretchedLadderWould) {
  // What one compaction refuses, as the test of measures shows, many rounds do.
  const auto p = policy({{"span", 2}, {"overlap", 1}}, 4, 60);
  SimulatedCache cache(layers(4), p->traits());
  cache.feed(*p, Phase::kPrefill, 57, {});
  ASSERT_NO_THROW(cache.resize(*p, 17));
  EXPECT_LE(cache.length(0), 17u);
}

TEST(LaCacheResized, TheScriptsQueryStaysAsFarAheadOfItsKey) {
  const auto p = policy({{"span", 8}, {"overlap", 4}, {"query", "script"}}, 30, 80);
  SimulatedCache cache(layers(30), p->traits());
  for (int i = 0; i < 200; ++i) cache.feed(*p, Phase::kDecode, 1, {});
  const auto ahead = [&] { return simulation::query_position(*p, 0, cache.length(0)) - (std::int64_t)cache.length(0); };
  const std::int64_t before = ahead();
  cache.resize(*p, 50);
  EXPECT_EQ(ahead(), before);
}

}  // namespace
}  // namespace lacake
