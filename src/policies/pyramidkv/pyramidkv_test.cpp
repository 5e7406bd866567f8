#include "policies/pyramidkv/pyramidkv.h"

#include <gtest/gtest.h>

#include "property/simulated_cache.h"

namespace lacake {
namespace {

using pyramidkv::entries_beside_window;
using simulation::SimulatedCache;
using Sizes = std::vector<std::size_t>;

Sizes sizes(std::size_t n_layer, std::size_t cache_size, std::size_t window, double beta, std::size_t n_tokens) {
  Sizes result;
  for (std::size_t l = 0; l < n_layer; ++l) {
    result.push_back(entries_beside_window(l, n_layer, cache_size, window, beta, n_tokens));
  }
  return result;
}

TEST(Pyramid, FallsLinearlyFromTwiceTheAverageToABetath) {
  EXPECT_EQ(sizes(5, 102, 2, 20, 1000), (Sizes{195, 147, 100, 52, 5}));
}

TEST(Pyramid, OfBetaOneIsFlat) { EXPECT_EQ(sizes(3, 12, 2, 1, 1000), (Sizes{10, 10, 10})); }

TEST(Pyramid, NoLayerIsLargerThanThePrompt) {
  EXPECT_EQ(sizes(3, 102, 2, 20, 122), (Sizes{120, 100, 80}));
  EXPECT_EQ(sizes(3, 102, 2, 20, 103), (Sizes{101, 100, 99}));
}

TEST(Pyramid, OfOneLayerIsThatLayer) { EXPECT_EQ(sizes(1, 102, 2, 20, 1000), Sizes{100}); }

TEST(Pyramid, NeverHoldsMoreThanItsWhole) {
  for (std::size_t n_layer = 1; n_layer < 40; ++n_layer) {
    for (std::size_t n_tokens = 51; n_tokens < 130; ++n_tokens) {
      std::size_t sum = 0;
      for (const std::size_t size : sizes(n_layer, 50, 7, 3.3, n_tokens)) sum += size;
      EXPECT_LE(sum, n_layer * 43);
      EXPECT_GE(sum + n_layer, n_layer * 43);
    }
  }
}

std::vector<float> flat(int, std::size_t n_entries, std::size_t n_rows) {
  return std::vector<float>(n_entries * n_rows, 0.01f);
}

Sizes lengths(const SimulatedCache& cache) { return {cache.length(0), cache.length(1), cache.length(2)}; }

TEST(PyramidKv, LayersKeepTheirSizesWhileDecoding) {
  const AttentionShape shape{.n_layer = 3, .n_head = 1, .n_head_kv = 1};
  const auto p = pyramidkv_policy().make({{"window", 2}, {"beta", 10}}, shape, 12);
  SimulatedCache cache(shape, p->traits());
  cache.feed(*p, Phase::kPrefill, 60, flat);
  EXPECT_EQ(lengths(cache), (Sizes{21, 12, 3}));
  for (int i = 0; i < 7; ++i) cache.feed(*p, Phase::kDecode, 1, flat);
  EXPECT_EQ(lengths(cache), (Sizes{21, 12, 3}));
}

TEST(PyramidKv, ASmallLayerDropsAShareOfItsOwnSizeAtOnce) {
  const AttentionShape shape{.n_layer = 3, .n_head = 1, .n_head_kv = 1};
  const auto p = pyramidkv_policy().make({{"window", 2}, {"beta", 10}, {"evict_fraction", 0.5}}, shape, 12);
  SimulatedCache cache(shape, p->traits());
  cache.feed(*p, Phase::kPrefill, 60, flat);
  cache.feed(*p, Phase::kDecode, 1, flat);
  EXPECT_EQ(lengths(cache), (Sizes{22 - 6, 13 - 6, 4 - 1}));
}

TEST(PyramidKv, InChunksLowerLayersGrowAsUpperOnesGiveUp) {
  const AttentionShape shape{.n_layer = 3, .n_head = 1, .n_head_kv = 1};
  const auto p = pyramidkv_policy().make({{"window", 2}, {"beta", 10}}, shape, 12);
  SimulatedCache cache(shape, p->traits());
  for (int i = 0; i < 6; ++i) {
    cache.feed(*p, Phase::kPrefill, 10, flat, [&](int) { EXPECT_LE(cache.total_length(), 3 * 12u); });
  }
  EXPECT_EQ(lengths(cache), (Sizes{21, 12, 3}));
}

}  // namespace
}  // namespace lacake
