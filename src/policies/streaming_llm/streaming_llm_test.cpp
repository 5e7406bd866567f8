#include "policies/streaming_llm/streaming_llm.h"

#include <gtest/gtest.h>

#include "lacake/error.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 2, .n_head = 2, .n_head_kv = 1};

std::unique_ptr<Policy> policy(double sinks, std::size_t cache_size) {
  return streaming_llm_policy().make({{"sinks", sinks}}, kShape, cache_size);
}

TEST(StreamingLlm, KeepsSinksAndTheMostRecent) {
  const auto p = policy(2, 5);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 9, {});
  EXPECT_EQ(cache.held(0), (PositionList{0, 1, 6, 7, 8}));
  cache.feed(*p, Phase::kDecode, 1, {});
  EXPECT_EQ(cache.held(1), (PositionList{0, 1, 7, 8, 9}));
}

TEST(StreamingLlm, DropsNothingUpToItsCacheSize) {
  const auto p = policy(2, 5);
  SimulatedCache cache(kShape, p->traits());
  for (int i = 0; i < 5; ++i) cache.feed(*p, Phase::kDecode, 1, {});
  EXPECT_EQ(cache.n_selections(), 0u);
}

TEST(StreamingLlm, WithoutSinksIsAPlainWindow) {
  const auto p = policy(0, 3);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 7, {});
  EXPECT_EQ(cache.held(0), (PositionList{4, 5, 6}));
}

TEST(StreamingLlm, NeedsOneEntryBesideTheSinks) {
  EXPECT_EQ(streaming_llm_policy().min_cache_size({{"sinks", 6}}, kShape), 7u);
  EXPECT_THROW(policy(6, 6), Error);
  EXPECT_NO_THROW(policy(6, 7));
}

TEST(StreamingLlm, StandsAtIndicesInTheCache) {
  const auto p = policy(4, 8);
  EXPECT_EQ(p->traits().positions, Positions::kCompacted);
  EXPECT_EQ(simulation::query_position(*p, 0, 8), 8);
}

}  // namespace
}  // namespace lacake
