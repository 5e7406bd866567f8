#include "policies/tova/tova.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::AttentionSource;
using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 1, .n_head = 4, .n_head_kv = 2};

// The last query's probabilities, by head; one list stands for all four.
AttentionSource last_row(std::vector<std::vector<float>> heads) {
  return [=](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 4, 0.0f);
    for (std::size_t h = 0; h < 4; ++h) {
      const std::vector<float>& row = heads[heads.size() == 1 ? 0 : h];
      std::copy(row.begin(), row.end(), rows.begin() + (std::ptrdiff_t)(((h + 1) * n_rows - 1) * n_entries));
    }
    return rows;
  };
}

TEST(Tova, KeepsWhatTheLastQuerySaw) {
  const auto p = tova_policy().make({}, kShape, 3);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 6, last_row({{0.1f, 0.3f, 0, 0.4f, 0.2f, 0}}));
  EXPECT_EQ(cache.held(0), (PositionList{1, 3, 5}));  // the newest stays though nobody looks at it
}

TEST(Tova, TakesTheMeanOverAllHeads) {
  const auto p = tova_policy().make({}, kShape, 2);
  SimulatedCache cache(kShape, p->traits());
  // One head's favourite loses against what three others see a little of.
  cache.feed(*p, Phase::kPrefill, 3, last_row({{0.5f, 0, 0}, {0, 0.2f, 0}, {0, 0.2f, 0}, {0, 0.2f, 0}}));
  EXPECT_EQ(cache.held(0, 0), (PositionList{1, 2}));
  EXPECT_EQ(cache.held(0, 1), (PositionList{1, 2}));
}

TEST(Tova, DropsTheLeastAttendedAtEveryStep) {
  const auto p = tova_policy().make({}, kShape, 3);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 3, {});
  cache.feed(*p, Phase::kDecode, 1, last_row({{0.3f, 0.1f, 0.2f, 0.4f}}));
  EXPECT_EQ(cache.held(0), (PositionList{0, 2, 3}));
  cache.feed(*p, Phase::kDecode, 1, last_row({{0.1f, 0.2f, 0.3f, 0.4f}}));
  EXPECT_EQ(cache.held(0), (PositionList{2, 3, 4}));
}

TEST(Tova, AsksForOneRowWhereItCuts) {
  const auto p = tova_policy().make({}, kShape, 3);
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 3, 3), Measures{});
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 4, 4), (Measures{.window = 1, .group_mean = true}));
}

TEST(TovaResized, KeepsWhatTheLastQuerySawWhereItWasMeasured) {
  const auto p = tova_policy().make({}, kShape, 5);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 6, last_row({{0.1f, 0.3f, 0, 0.4f, 0.2f, 0}}));
  cache.resize(*p, 3);
  EXPECT_EQ(cache.held(0), (PositionList{1, 3, 5}));
}

TEST(TovaResized, KeepsTheNewestWhereNothingWasMeasured) {
  const auto p = tova_policy().make({}, kShape, 8);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 6, {});
  cache.resize(*p, 3);
  EXPECT_EQ(cache.held(0), (PositionList{3, 4, 5}));
}

}  // namespace
}  // namespace lacake
