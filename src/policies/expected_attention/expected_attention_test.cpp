#include "policies/expected_attention/expected_attention.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::AttentionSource;
using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 1, .n_head = 1, .n_head_kv = 1};

// The simulated cache takes what is expected from the attention source, and makes values longer by (7 token) mod 11
// tenths.
AttentionSource expects(std::vector<std::size_t> entries) {
  return [=](int, std::size_t n_entries, std::size_t) {
    std::vector<float> row(n_entries, 0.001f);
    for (const std::size_t entry : entries) row[entry] = 0.2f;
    return row;
  };
}

TEST(ExpectedAttention, KeepsWhatIsExpectedTheSinksAndTheNewest) {
  const auto p = expected_attention_policy().make({{"sinks", 2}}, kShape, 5);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 20, expects({7, 11}));
  EXPECT_EQ(cache.held(0), (PositionList{0, 1, 7, 11, 19}));
}

TEST(ExpectedAttention, LengthsOfValuesDecideTheMoreTheLargerEpsilonIs) {
  // Tokens 3 and 14 have the longest values of 2 .. 18, and of equal ones the newer stays.
  for (const double epsilon : {0.0, 1.0}) {
    const auto p = expected_attention_policy().make({{"sinks", 2}, {"epsilon", epsilon}}, kShape, 4);
    SimulatedCache cache(kShape, p->traits());
    cache.feed(*p, Phase::kPrefill, 20, expects({11}));
    EXPECT_EQ(cache.held(0), epsilon > 0 ? (PositionList{0, 1, 14, 19}) : (PositionList{0, 1, 11, 19}));
  }
}

TEST(ExpectedAttention, AsksForItsMeasuresWhereAPromptIsCutAndForNothingElse) {
  const auto p = expected_attention_policy().make({{"sinks", 3}, {"future", 100}}, kShape, 8);
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 9, 9),
            (Measures{.value_norm = ValueNorm::kPlain, .expected_positions = 100, .expected_sinks = 3}));
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 8, 8), Measures{});
  EXPECT_EQ(p->measures(Phase::kDecode, 0, 9, 1), Measures{});
}

// Of a cache of 10: the prompt's lowest go until the answer has half, then the answer's oldest.
TEST(ExpectedAttentionDecode, AnAnswerTakesItsShareOfThePromptsLowest) {
  const auto p = expected_attention_policy().make({{"sinks", 1}, {"evict_fraction", 0}}, kShape, 10);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 30, expects({5, 6, 7}));
  const PositionList after_prompt = cache.held(0);
  for (int i = 0; i < 12; ++i) cache.feed(*p, Phase::kDecode, 1, expects({}));
  const PositionList& held = cache.held(0);
  ASSERT_EQ(held.size(), 10u);
  EXPECT_EQ(held.front(), 0);
  for (const std::int64_t token : {5, 6, 7}) EXPECT_TRUE(std::binary_search(held.begin(), held.end(), token)) << token;
  EXPECT_EQ(PositionList(held.end() - 5, held.end()), (PositionList{37, 38, 39, 40, 41}));
  EXPECT_TRUE(std::all_of(held.begin(), held.end() - 5, [](std::int64_t t) { return t < 30; }));
}

// One that leaves no share to the answer keeps the prompt.
TEST(ExpectedAttentionDecode, NoneOfAnAnswerStaysWhereItsShareIsNone) {
  const auto p = expected_attention_policy().make({{"sinks", 1}, {"evict_fraction", 0}, {"recent", 0}}, kShape, 10);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 30, expects({5}));
  for (int i = 0; i < 6; ++i) cache.feed(*p, Phase::kDecode, 1, expects({}));
  // The newest is the window; the prompt's last was it before.
  EXPECT_EQ(cache.held(0).back(), 35);
  EXPECT_LT(*(cache.held(0).end() - 2), 30);
}

TEST(ExpectedAttentionTurns, ALaterPromptScoresEverythingAnew) {
  const auto p = expected_attention_policy().make({{"sinks", 1}}, kShape, 4);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 30, expects({5, 9}));
  EXPECT_EQ(cache.held(0), (PositionList{0, 5, 9, 29}));
  cache.feed(*p, Phase::kPrefill, 10, expects({2, 7}));  // entries: 0 5 9 29 30 ..
  EXPECT_EQ(cache.held(0), (PositionList{0, 9, 33, 39}));
}

}  // namespace
}  // namespace lacake
