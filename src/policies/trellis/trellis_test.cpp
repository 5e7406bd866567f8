#include "policies/trellis/trellis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::AttentionSource;
using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 1, .n_head = 2, .n_head_kv = 1};
const PolicySettings kBare = {{"sinks", 0}, {"window", 1}, {"ladder", 0}, {"recent", 0}, {"at_once", 0}, {"every", 1}};

PolicySettings bare_with(std::string name, double value) {
  PolicySettings settings = kBare;
  settings[name] = value;
  return settings;
}

// The last query's probabilities in both heads; all queries before it saw nothing.
AttentionSource last_row(std::vector<float> first, std::vector<float> second) {
  return [=](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 2, 0.0f);
    const auto last = static_cast<std::ptrdiff_t>((n_rows - 1) * n_entries);
    std::copy(first.begin(), first.end(), rows.begin() + last);
    std::copy(second.begin(), second.end(), rows.begin() + static_cast<std::ptrdiff_t>(n_rows * n_entries) + last);
    return rows;
  };
}

AttentionSource last_row(const std::vector<float>& both) { return last_row(both, both); }

TEST(Trellis, GivesAPromptsEntriesToTheHeadThatWantsThemMost) {
  const auto p = trellis_policy().make(kBare, kShape, 2);
  SimulatedCache cache(kShape, p->traits());
  // By the mean over heads entry 1 would win (0.3 of both), by the most of one head entry 9 does.
  cache.feed(*p, Phase::kPrefill, 11,
             last_row({0, 0.3f, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {0, 0.3f, 0, 0, 0, 0, 0, 0, 0.5f, 0, 0}));
  EXPECT_EQ(cache.held(0), (PositionList{9, 10}));  // pooled, its neighbours are equal: the newest stays
}

TEST(Trellis, RemembersWhatEarlierQueriesSaw) {
  const auto p = trellis_policy().make(kBare, kShape, 3);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kDecode, 1, last_row({1}));
  cache.feed(*p, Phase::kDecode, 1, last_row({0.9f, 0.1f}));
  cache.feed(*p, Phase::kDecode, 1, last_row({0.9f, 0.05f, 0.05f}));
  // The last query sees nothing of entry 0, which the ones before saw most of.
  cache.feed(*p, Phase::kDecode, 1, last_row({0, 0.1f, 0.5f, 0.4f}));
  EXPECT_EQ(cache.held(0), (PositionList{0, 2, 3}));
}

TEST(Trellis, KeepsWhatIsSeenSeldomButStronglyByItsSpread) {
  const auto held = [](double spread) {
    const auto p = trellis_policy().make(bare_with("spread", spread), kShape, 3);
    SimulatedCache cache(kShape, p->traits());
    cache.feed(*p, Phase::kDecode, 1, last_row({0}));
    cache.feed(*p, Phase::kDecode, 1, last_row({0, 0.3f}));
    cache.feed(*p, Phase::kDecode, 1, last_row({0.6f, 0.3f, 0.9f}));
    cache.feed(*p, Phase::kDecode, 1, last_row({0, 0.3f, 0.9f, 0}));
    return cache.held(0);
  };
  // Entry 0 received 0.15 on average, entry 1 steadily 0.3.
  EXPECT_EQ(held(0), (PositionList{1, 2, 3}));
  EXPECT_EQ(held(1), (PositionList{0, 2, 3}));
}

TEST(Trellis, KeepsTheNewestShareOfAnAnswer) {
  const auto held = [](double recent) {
    const auto p = trellis_policy().make(bare_with("recent", recent), kShape, 4);
    SimulatedCache cache(kShape, p->traits());
    for (int i = 0; i < 4; ++i) cache.feed(*p, Phase::kDecode, 1, last_row({1}));
    cache.feed(*p, Phase::kDecode, 1, last_row({0.4f, 0.3f, 0.3f, 0, 0}));
    return cache.held(0);
  };
  EXPECT_EQ(held(0), (PositionList{0, 1, 2, 4}));
  EXPECT_EQ(held(0.5), (PositionList{0, 2, 3, 4}));
}

TEST(Trellis, KeepsARungOfEveryRegionOfThePrompt) {
  std::vector<float> row(41, 0.0f);
  for (std::size_t i = 30; i < 40; ++i) row[i] = 0.1f;
  const auto regions = [&](double ladder) {
    const auto p = trellis_policy().make(bare_with("ladder", ladder), kShape, 8);
    SimulatedCache cache(kShape, p->traits());
    cache.feed(*p, Phase::kPrefill, 41, last_row(row));
    std::vector<std::size_t> seen(4, 0);
    for (const std::int64_t token : cache.held(0)) ++seen[static_cast<std::size_t>(token) * 4 / 41];
    return seen;
  };
  EXPECT_EQ(regions(0)[0] + regions(0)[1], 0u);
  const std::vector<std::size_t> with_ladder = regions(0.5);
  EXPECT_EQ(std::count(with_ladder.begin(), with_ladder.end(), 0u), 0);
}

TEST(Trellis, LooksAtOneQueryOfAnAnswerInSoManyEntries) {
  const auto looks = [](std::size_t cache_size) {
    const auto p = trellis_policy().make({}, kShape, cache_size);
    SimulatedCache cache(kShape, p->traits());
    int n = 0;
    for (int i = 0; i < 16; ++i) {
      n += p->measures(Phase::kDecode, 0, 1, 1).any();
      cache.feed(*p, Phase::kDecode, 1, last_row({1}));
    }
    return n;
  };
  EXPECT_EQ(looks(64), 16);
  EXPECT_EQ(looks(256), 8);
  EXPECT_EQ(looks(512), 4);
}

TEST(Trellis, AsksForAPromptsLastQueriesOnlyWhereItCuts) {
  const auto p = trellis_policy().make({}, kShape, 16);
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 16, 16), Measures{});
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 17, 17), (Measures{.window = 1}));
}

}  // namespace
}  // namespace lacake
