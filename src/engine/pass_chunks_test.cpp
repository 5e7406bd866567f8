#include "engine/pass_chunks.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/plan.h"

namespace lacake {
namespace {

const std::vector<Token> kSegment(kComputeChunk + 3);

TEST(PassChunks, AreTheSegmentsInOrderWithNoMoreTokensThanOneStepTakes) {
  const PassChunks chunks(kSegment, {});
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].tokens.size(), kComputeChunk);
  EXPECT_EQ(chunks[1].tokens.size(), 3u);
  EXPECT_EQ(chunks[1].row, kComputeChunk);
  EXPECT_EQ(chunks.n_columns(), kSegment.size());
  EXPECT_EQ(chunks.n_rows(), kSegment.size());
  EXPECT_TRUE(chunks.is_observed(chunks[1]) && chunks.is_summed(chunks[1]));
  EXPECT_EQ(chunks.observed_end(), kSegment.size());
}

TEST(PassChunks, OfProbesTakeTurnsInTheRowsBehindTheSegment) {
  const std::vector<Probe> probes = {{.tokens = std::vector<Token>(5)}, {.tokens = std::vector<Token>(9)}};
  const PassChunks chunks(kSegment, probes);
  ASSERT_EQ(chunks.size(), 4u);
  for (std::size_t i : {2, 3}) EXPECT_EQ(chunks[i].row, kSegment.size()) << i;
  EXPECT_EQ(chunks[3].column, kSegment.size() + 5);
  EXPECT_EQ(chunks.n_columns(), kSegment.size() + 14);
  EXPECT_EQ(chunks.n_rows(), kSegment.size() + 9);
}

TEST(PassChunks, AreObservedInTheLastProbeAndSummedOverAll) {
  const std::vector<Probe> probes = {{.tokens = std::vector<Token>(5)}, {.tokens = std::vector<Token>(9)}};
  const PassChunks chunks(kSegment, probes);
  EXPECT_FALSE(chunks.is_observed(chunks[0]) || chunks.is_summed(chunks[0]));
  EXPECT_TRUE(!chunks.is_observed(chunks[2]) && chunks.is_summed(chunks[2]));
  EXPECT_TRUE(chunks.is_observed(chunks[3]) && chunks.is_summed(chunks[3]));
  EXPECT_EQ(chunks.n_probe(), 14u);
  EXPECT_EQ(chunks.n_observed(), 9u);
  EXPECT_EQ(chunks.observed_end(), kSegment.size() + 9);
  EXPECT_FALSE(chunks.repeats());
}

TEST(PassChunks, OfARepeatAreNotObserved) {
  const std::vector<Probe> probes = {{.tokens = std::vector<Token>(7), .first = 1, .last = 4}};
  const PassChunks chunks(kSegment, probes);
  EXPECT_TRUE(chunks.repeats() && chunks[2].repeats());
  EXPECT_FALSE(chunks.is_observed(chunks[2]) || chunks.is_summed(chunks[2]));
  EXPECT_EQ(chunks.n_probe(), 0u);
  EXPECT_TRUE(chunks.is_observed(chunks[1]));
}

}  // namespace
}  // namespace lacake
