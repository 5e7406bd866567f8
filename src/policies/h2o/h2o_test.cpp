#include "policies/h2o/h2o.h"

#include <gtest/gtest.h>

#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::AttentionSource;
using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 1, .n_head = 2, .n_head_kv = 1};

// All queries see one entry, with this much.
AttentionSource attends_to(std::size_t entry, float much = 0.5f) {
  return [=](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 2, 0.0f);
    for (std::size_t r = 0; r < n_rows * 2; ++r) rows[r * n_entries + entry] = much;
    return rows;
  };
}

TEST(H2o, KeepsTheHeavyHittersAndTheMostRecent) {
  const auto p = h2o_policy().make({}, kShape, 4);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 10, attends_to(3));
  EXPECT_EQ(cache.held(0), (PositionList{3, 7, 8, 9}));
}

TEST(H2o, AddsUpWhatEachQuerySaw) {
  const auto p = h2o_policy().make({{"every", 1}}, kShape, 4);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 4, attends_to(1));  // 4 queries of a half
  // The answer looks at 2, wherever that stands.
  for (const std::size_t entry : {2, 1, 1}) cache.feed(*p, Phase::kDecode, 1, attends_to(entry));
  EXPECT_EQ(cache.held(0), (PositionList{1, 2, 5, 6}));
}

TEST(H2o, WatchesFromTheFirstToken) {
  const auto p = h2o_policy().make({}, kShape, 4);
  EXPECT_TRUE(p->measures(Phase::kDecode, 0, 1, 1).accumulated);
  EXPECT_TRUE(p->measures(Phase::kPrefill, 0, 3, 3).accumulated);
}

TEST(H2oDecode, OneQueryInSoManyCountsForAll) {
  const auto p = h2o_policy().make({{"every", 2}}, kShape, 8);
  SimulatedCache cache(kShape, p->traits());
  std::vector<bool> asked;
  for (int i = 0; i < 4; ++i) {
    asked.push_back(p->measures(Phase::kDecode, 0, cache.length(0) + 1, 1).accumulated);
    cache.feed(*p, Phase::kDecode, 1, attends_to(0));
  }
  EXPECT_EQ(asked, (std::vector<bool>{true, false, true, false}));
  // 0 was counted four times over two looks; nobody saw 1 to 4, of which the newer stay.
  cache.feed(*p, Phase::kPrefill, 6, attends_to(5));
  EXPECT_EQ(cache.held(0), (PositionList{0, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(H2o, RecentIsAShareOfItsCacheSize) {
  EXPECT_EQ(h2o_policy().make({{"recent", 0.25}}, kShape, 8)->traits().window, 2u);
  EXPECT_EQ(h2o_policy().make({{"recent", 1}}, kShape, 8)->traits().window, 7u);
}

}  // namespace
}  // namespace lacake
