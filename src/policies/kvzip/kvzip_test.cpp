#include "policies/kvzip/kvzip.h"

#include <gtest/gtest.h>

#include <vector>

#include "lacake/error.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::AttentionSource;
using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kOne{.n_layer = 1, .n_head = 1, .n_head_kv = 1};
constexpr AttentionShape kTwo{.n_layer = 2, .n_head = 2, .n_head_kv = 2};

std::unique_ptr<Policy> make(const std::string& settings, const AttentionShape& shape, std::size_t cache_size) {
  const PolicySpec spec = PolicySpec::parse("kvzip:" + settings);
  return spec.type->make(spec.settings, shape, cache_size);
}

// Peaks as a policy is shown them, one list of all heads for each layer.
AttentionSource peaks(std::vector<std::vector<float>> by_layer) {
  return [=](int layer, std::size_t, std::size_t) { return by_layer[(std::size_t)layer]; };
}

TEST(KvZip, KeepsWhatTheRepeatLookedAt) {
  const auto p = make("heads=even,sinks=1,window=1", kOne, 4);
  SimulatedCache cache(kOne, p->traits());
  cache.feed(*p, Phase::kPrefill, 7, peaks({{0, 0.1f, 0.9f, 0.2f, 0.8f, 0.3f, 0}}));
  EXPECT_EQ(cache.held(0), (PositionList{0, 2, 4, 6}));
}

TEST(KvZip, SharesAllEntriesAmongAllHeadsOfAllLayers) {
  const auto p = make("sinks=0,window=0,floor=0", kTwo, 2);
  SimulatedCache cache(kTwo, p->traits());
  // 2 entries a head in 4 heads: the 8 best of all.
  cache.feed(*p, Phase::kPrefill, 4, peaks({{9, 8, 7, 6, 1, 1, 1, 5}, {1, 1, 4, 3, 1, 2, 1, 1}}));
  EXPECT_EQ(cache.held(0, 0), (PositionList{0, 1, 2, 3}));
  EXPECT_EQ(cache.held(0, 1), (PositionList{3}));
  EXPECT_EQ(cache.held(1, 0), (PositionList{2, 3}));
  EXPECT_EQ(cache.held(1, 1), (PositionList{1}));
}

TEST(KvZip, LeavesSpareEntriesFree) {
  const auto p = make("sinks=0,window=0,floor=0,spare=1", kTwo, 2);
  SimulatedCache cache(kTwo, p->traits());
  cache.feed(*p, Phase::kPrefill, 4, peaks({{9, 8, 7, 6, 1, 1, 1, 5}, {1, 1, 4, 3, 1, 2, 1, 1}}));
  EXPECT_EQ(cache.held(1, 1), PositionList{});
  EXPECT_THROW(make("spare=1,heads=even", kTwo, 20), Error);
}

// -1: what a template wrote before and behind the text.
TEST(KvZip, KeepsAShortPrefixAndWhatStandsBehind) {
  const std::vector<float> seen = {-1, -1, 0.5f, 0.4f, 0.9f, 0.8f, 0.7f, 0.6f, 0.3f, -1};
  const auto keeps = make("heads=even,sinks=0,window=0", kOne, 8);
  SimulatedCache cache(kOne, keeps->traits());
  cache.feed(*keeps, Phase::kPrefill, 10, peaks({seen}));
  EXPECT_EQ(cache.held(0), (PositionList{0, 1, 2, 4, 5, 6, 7, 9}));

  const auto drops = make("heads=even,sinks=0,window=0,prefix=drop", kOne, 8);
  SimulatedCache other(kOne, drops->traits());
  other.feed(*drops, Phase::kPrefill, 10, peaks({seen}));
  EXPECT_EQ(other.held(0), (PositionList{2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(KvZip, APrefixGetsAQuarterOfTheCacheAtMost) {
  const auto p = make("heads=even,sinks=0,window=0", kOne, 4);
  SimulatedCache cache(kOne, p->traits());
  cache.feed(*p, Phase::kPrefill, 8, peaks({{-1, -1, -1, 0.5f, 0.4f, 0.9f, 0.8f, 0.7f}}));
  EXPECT_EQ(cache.held(0), (PositionList{0, 5, 6, 7}));
}

// A question and an answer stay as long as they are new; the text gives up its least for them.
TEST(KvZip, InAnAnswerTheNewestStayUntilTheirShareIsFull) {
  const auto p = make("heads=even,sinks=0,window=0,recent=0.5", kOne, 4);
  SimulatedCache cache(kOne, p->traits());
  cache.feed(*p, Phase::kPrefill, 6, peaks({{0.1f, 0.9f, 0.2f, 0.8f, 0.3f, 0.4f}}));
  EXPECT_EQ(cache.held(0), (PositionList{1, 3, 4, 5}));
  const auto step = [&] {
    EXPECT_EQ(p->measures(Phase::kDecode, 0, 5, 1), Measures{});
    cache.feed(*p, Phase::kDecode, 1, {});
    return cache.held(0);
  };
  EXPECT_EQ(step(), (PositionList{1, 3, 5, 6}));
  EXPECT_EQ(step(), (PositionList{1, 3, 6, 7}));
  EXPECT_EQ(step(), (PositionList{1, 3, 7, 8}));
  EXPECT_EQ(step(), (PositionList{1, 3, 8, 9}));
}

TEST(KvZip, WithoutARepeatTheNewestStay) {
  const auto p = make("heads=even,sinks=1,window=1", kOne, 4);
  SimulatedCache cache(kOne, p->traits());
  cache.set_repeats(false);
  cache.feed(*p, Phase::kPrefill, 9, {});
  EXPECT_EQ(cache.held(0), (PositionList{0, 6, 7, 8}));
  cache.feed(*p, Phase::kDecode, 1, {});
  EXPECT_EQ(cache.held(0), (PositionList{0, 7, 8, 9}));
}

TEST(KvZip, ALaterTurnWithoutARepeatTakesTheRoomOfTheLeast) {
  const auto p = make("heads=even,sinks=0,window=0,recent=0.5", kOne, 4);
  SimulatedCache cache(kOne, p->traits());
  cache.feed(*p, Phase::kPrefill, 6, peaks({{0.1f, 0.9f, 0.2f, 0.8f, 0.3f, 0.4f}}));
  cache.set_repeats(false);
  cache.feed(*p, Phase::kPrefill, 3, {});
  EXPECT_EQ(cache.held(0), (PositionList{1, 3, 7, 8}));
}

TEST(KvZip, AsksForTheRepeatWhereItCutsAndSaysHowMuchAtATime) {
  const auto p = make("heads=even,chunk=100,sinks=6", kOne, 12);
  EXPECT_EQ(p->traits().repeat_chunk, 100u);
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 12, 12), Measures{});
  EXPECT_EQ(p->measures(Phase::kPrefill, 0, 13, 13), (Measures{.repeat = RepeatScore::kPeak, .repeat_sinks = 6}));
  EXPECT_EQ(make("plus=on", kOne, 12)->measures(Phase::kPrefill, 0, 13, 13),
            (Measures{.value_norm = ValueNorm::kOutput, .repeat = RepeatScore::kPeakOfOutput, .repeat_sinks = 4}));
}

TEST(KvZipResized, KeepsTheBestOfTheTextAndTheNewestInProportion) {
  const auto p = make("heads=even,sinks=0,window=0", kOne, 6);
  SimulatedCache cache(kOne, p->traits());
  cache.feed(*p, Phase::kPrefill, 7, peaks({{0.1f, 0.9f, 0.2f, 0.8f, 0.3f, 0.4f, 0.7f}}));
  cache.resize(*p, 3);
  EXPECT_EQ(cache.held(0), (PositionList{1, 3, 6}));
}

}  // namespace
}  // namespace lacake
