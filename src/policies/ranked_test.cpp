#include "policies/ranked.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 5, .n_head = 4, .n_head_kv = 2};
constexpr std::size_t kSinks = 2, kWindow = 3, kCacheSize = 20, kPrompt = 60;

// Scores of a table, [tokens of the first prompt] for each list; later tokens have what `later` says.
using Table = std::vector<std::vector<float>>;

class ByTable final : public RankedPolicy {
 public:
  ByTable(const Options& options, Table table) : RankedPolicy(options, kShape), table_(std::move(table)) {}
  Measures measures(Phase, int, std::size_t, std::size_t) const override { return {}; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<ByTable>(*this); }

 protected:
  std::size_t score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    if (seen.n_past > 0) return kNothingSeen;
    const std::vector<float>& row = table_[(std::size_t)seen.layer * 2 + list];
    std::copy_n(row.begin(), scores.size(), scores.begin());
    return 0;
  }

 private:
  Table table_;
};

// Layers and heads of very different scores.
Table random_table(unsigned seed) {
  std::mt19937 random(seed);
  Table table;
  for (int i = 0; i < kShape.n_layer * kShape.n_head_kv; ++i) {
    const float scale = std::exp2((float)(random() % 6));
    std::vector<float>& row = table.emplace_back(kPrompt);
    for (float& score : row) score = scale * std::uniform_real_distribution<float>()(random);
  }
  return table;
}

RankedPolicy::Options joint(double floor) {
  return {.policy = "table",
          .cache_size = kCacheSize,
          .min_cache_size = kSinks + kWindow + 1,
          .sinks = kSinks,
          .window = kWindow,
          .sharing = RankedPolicy::Options::Sharing::kJoint,
          .head_floor = floor};
}

// What a choice over all layers and heads at once keeps of each list.
std::vector<PositionList> best_at_once(const Table& table, std::size_t n_safe) {
  struct Candidate {
    bool safe;
    float score;
    std::size_t list, token;
  };
  std::vector<Candidate> all;
  for (std::size_t list = 0; list < table.size(); ++list) {
    std::vector<Candidate> own;
    for (std::size_t i = kSinks; i < kPrompt - kWindow; ++i) own.push_back({false, table[list][i], list, i});
    std::sort(own.begin(), own.end(), [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    for (std::size_t i = 0; i < n_safe; ++i) own[i].safe = true;
    all.insert(all.end(), own.begin(), own.end());
  }
  std::sort(all.begin(), all.end(),
            [](const Candidate& a, const Candidate& b) { return a.safe != b.safe ? a.safe : a.score > b.score; });
  all.resize((kCacheSize - kSinks - kWindow) * table.size());
  std::vector<PositionList> kept(table.size());
  for (PositionList& list : kept) {
    for (std::size_t i = 0; i < kSinks; ++i) list.push_back((std::int64_t)i);
    for (std::size_t i = kPrompt - kWindow; i < kPrompt; ++i) list.push_back((std::int64_t)i);
  }
  for (const Candidate& c : all) kept[c.list].push_back((std::int64_t)c.token);
  for (PositionList& list : kept) std::sort(list.begin(), list.end());
  return kept;
}

std::vector<float> nothing(int, std::size_t, std::size_t) { return {}; }

TEST(JointChoice, LayerByLayerKeepsWhatAChoiceOverAllAtOnceKeeps) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    for (const double floor : {0.0, 0.2, 1.0}) {
      const Table table = random_table(seed);
      ByTable policy(joint(floor), table);
      SimulatedCache cache(kShape, policy.traits());
      cache.feed(policy, Phase::kPrefill, kPrompt, nothing);
      const auto n_safe = (std::size_t)(floor * (kCacheSize - kSinks - kWindow));
      const std::vector<PositionList> expected = best_at_once(table, n_safe);
      for (std::size_t list = 0; list < table.size(); ++list) {
        EXPECT_EQ(cache.held((int)(list / 2), (int)(list % 2)), expected[list])
            << "seed " << seed << " floor " << floor << " list " << list;
      }
    }
  }
}

TEST(JointChoice, LeavesRoomForWhatLaterLayersAreSureOf) {
  for (const double floor : {0.0, 0.5}) {
    ByTable policy(joint(floor), random_table(3));
    SimulatedCache cache(kShape, policy.traits());
    const std::size_t sure = kSinks + kWindow + (std::size_t)(floor * (kCacheSize - kSinks - kWindow));
    cache.feed(policy, Phase::kPrefill, kPrompt, nothing, [&](int layer) {
      const auto n_later = (std::size_t)(kShape.n_layer - 1 - layer);
      EXPECT_EQ(cache.total_length() + n_later * sure,
                std::min(kCacheSize * 5, ((std::size_t)layer + 1) * kPrompt + n_later * sure));
    });
  }
}

TEST(JointChoice, ASmallerCacheKeepsTheBestOfTheSameScores) {
  const Table table = random_table(5);
  RankedPolicy::Options wide = joint(0);
  wide.cache_size = 40;
  ByTable policy(wide, table);
  SimulatedCache cache(kShape, policy.traits());
  cache.feed(policy, Phase::kPrefill, kPrompt, nothing);
  cache.resize(policy, kCacheSize);
  const std::vector<PositionList> expected = best_at_once(table, 0);
  for (std::size_t list = 0; list < table.size(); ++list) {
    EXPECT_EQ(cache.held((int)(list / 2), (int)(list % 2)), expected[list]);
  }
}

TEST(JointChoice, ALaterTurnIsHeldWithinTheSame) {
  ByTable policy(joint(0.2), random_table(7));
  SimulatedCache cache(kShape, policy.traits());
  cache.feed(policy, Phase::kPrefill, kPrompt, nothing);
  for (int turn = 0; turn < 3; ++turn) {
    cache.feed(policy, Phase::kPrefill, 9, nothing,
               [&](int layer) { EXPECT_LE(cache.total_length(), kCacheSize * 5 + 9) << "layer " << layer; });
    EXPECT_EQ(cache.total_length(), kCacheSize * 5);
    EXPECT_EQ(cache.held(4, 1).back(), cache.n_past() - 1);
  }
}

}  // namespace
}  // namespace lacake
