#include "policies/lacache/ladder.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <string>

#include "lacake/error.h"

namespace lacake::lacache {
namespace {

using List = std::vector<std::uint32_t>;

std::string usage_error(const Settings& settings) {
  try {
    check(settings);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Ladder, FollowsTheFormulas) {
  const Ladder paper = ladder_of({.n_layer = 32, .span = 16, .overlap = 0});
  EXPECT_EQ(paper.before, 2u);
  EXPECT_EQ(paper.after, 1u);
  const Ladder steep = ladder_of({.n_layer = 30, .span = 8, .overlap = 4});
  EXPECT_EQ(steep.before, 7u);
  EXPECT_EQ(steep.after, 2u);
  EXPECT_EQ(steep.removed, 5u);
}

TEST(Ladder, SettingsThatGiveNothingUpAreRefusedWithAWayOut) {
  EXPECT_NE(usage_error({.n_layer = 8, .span = 4, .overlap = 4}).find("expected overlap below span=4, found overlap=4"),
            std::string::npos);
  EXPECT_NE(usage_error({.n_layer = 4, .span = 16}).find("smaller span"), std::string::npos);
  EXPECT_NE(usage_error({.n_layer = 16, .span = 9, .overlap = 7}).find("smaller overlap"), std::string::npos);
  EXPECT_EQ(usage_error({.n_layer = 16, .span = 8, .overlap = 4}), "");
}

TEST(Ladder, NeighbouringLayersKeepDifferentEntries) {
  // 4 layers, span 2, overlap 1: three entries a ladder, two stay.
  const Settings settings{.n_layer = 4, .span = 2, .overlap = 1, .sinks = 1};
  const Plan plan = plan_compaction(settings, 10, 1, 12);
  EXPECT_EQ(kept(plan, 0), (List{0, 1, 2, 4, 5, 7, 8, 9, 10, 11}));
  EXPECT_EQ(kept(plan, 1), (List{0, 2, 3, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(kept(plan, 2), kept(plan, 0));
  EXPECT_EQ(plan.cursor, 5u);
}

TEST(Ladder, CompactsBehindTheCursorWhileThereIsRoom) {
  const Settings settings{.n_layer = 2, .span = 1, .sinks = 1};
  const Plan plan = plan_compaction(settings, 6, 3, 7);
  ASSERT_EQ(plan.walks.size(), 1u);
  EXPECT_EQ(kept(plan, 0), (List{0, 1, 2, 3, 5, 6}));
  EXPECT_EQ(kept(plan, 1), (List{0, 1, 2, 4, 5, 6}));
  EXPECT_EQ(plan.cursor, 4u);
}

TEST(Ladder, StartsOverFromTheSinksWithoutRoom) {
  const Settings settings{.n_layer = 2, .span = 1, .sinks = 1};
  const Plan plan = plan_compaction(settings, 6, 4, 7);
  ASSERT_EQ(plan.walks.size(), 2u);
  EXPECT_EQ(kept(plan, 0), (List{0, 1, 3, 4, 5, 6}));
  EXPECT_EQ(kept(plan, 1), (List{0, 2, 3, 4, 5, 6}));
  EXPECT_EQ(plan.cursor, 2u);
}

TEST(Ladder, AStretchedLadderKeepsOneEntryOfMany) {
  // 9 too many: the first walk takes 3 and leaves 12 entries (layer 0: 0 1 3 5 7-14); of those, twice stretched, every
  // third one stays.
  const Settings settings{.n_layer = 2, .span = 1, .sinks = 1};
  const Plan plan = plan_compaction(settings, 6, 1, 15);
  ASSERT_EQ(plan.walks.size(), 2u);
  EXPECT_EQ(plan.walks.back().gap, 2u);
  EXPECT_EQ(kept(plan, 0), (List{0, 1, 7, 10, 13, 14}));
  EXPECT_EQ(kept(plan, 1), (List{0, 4, 8, 11, 13, 14}));
}

TEST(Ladder, AllLayersKeepEquallyMany) {
  const Settings settings{.n_layer = 24, .span = 9, .overlap = 7, .sinks = 4};
  const std::size_t cache_size = compensated(ladder_of(settings), 60);
  for (std::size_t n : {cache_size + 1, cache_size + 20, cache_size + 200}) {
    const Plan plan = plan_compaction(settings, cache_size, settings.sinks, n);
    EXPECT_LE(plan.length_after(), cache_size);
    for (std::size_t layer = 0; layer < settings.n_layer; ++layer) {
      EXPECT_EQ(kept(plan, layer).size(), plan.length_after()) << n << " entries, layer " << layer;
    }
  }
}

TEST(Ladder, AnOrdinaryStepDropsTheOneEntryThatItDoesNotKeep) {
  std::size_t n_ordinary = 0;
  for (const Settings& settings : {Settings{.n_layer = 30, .span = 16, .sinks = 4}, Settings{.n_layer = 3, .span = 1},
                                   Settings{.n_layer = 4, .span = 2, .overlap = 1, .sinks = 1}}) {
    for (std::size_t cursor = settings.sinks; cursor + settings.n_layer <= 80; ++cursor) {
      const Plan plan = plan_compaction(settings, 80, cursor, 81);
      for (std::size_t layer = 0; layer < settings.n_layer; ++layer) {
        const std::optional<std::uint32_t> entry = dropped(plan, layer);
        if (!entry) continue;
        List all(81);
        std::iota(all.begin(), all.end(), 0u);
        all.erase(all.begin() + *entry);
        ASSERT_EQ(kept(plan, layer), all) << "cursor " << cursor << " layer " << layer;
        ++n_ordinary;
      }
    }
  }
  EXPECT_GT(n_ordinary, 1000u);
}

TEST(Ladder, TheLeastCacheSizeIsTheOfficialCondition) {
  for (std::size_t n_layer : {2, 4, 7, 16, 30, 32}) {
    for (std::size_t span = 1; span < n_layer; ++span) {
      for (std::size_t overlap = 0; overlap < span; ++overlap) {
        const Settings settings{.n_layer = n_layer, .span = span, .overlap = overlap, .sinks = 4};
        const Ladder ladder = ladder_of(settings);
        if (ladder.removed == 0) continue;
        const std::size_t least = least_cache_size(settings);
        const std::size_t taken = settings.sinks + n_layer;
        EXPECT_GE((compensated(ladder, least) - taken) / ladder.after, 1u);
        EXPECT_LT(compensated(ladder, least - 1), taken + ladder.after);
      }
    }
  }
}

TEST(Ladder, APromptThatCannotBeCompactedIsNamedWithTheCacheSize) {
  const Settings settings{.n_layer = 4, .span = 2, .overlap = 1, .sinks = 4};
  try {
    plan_compaction(settings, 17, 4, 57);
    FAIL() << "the stretched ladder reaches past 57 entries";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("57 entries"), std::string::npos) << message;
    EXPECT_NE(message.find("cache size 17"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace lacake::lacache
