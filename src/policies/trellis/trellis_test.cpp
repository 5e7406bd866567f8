#include "policies/trellis/trellis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "lacake/error.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using simulation::AttentionSource;
using simulation::PositionList;
using simulation::SimulatedCache;

constexpr AttentionShape kShape{.n_layer = 1, .n_head = 2, .n_head_kv = 1};
const PolicySettings kBare = {{"sinks", 0},  {"window", 1}, {"rows", 1},           {"onward", 0},
                              {"ladder", 0}, {"recent", 0}, {"evict_fraction", 0}, {"every", 1}};

PolicySettings bare_with(std::string name, double value) {
  PolicySettings settings = kBare;
  settings[name] = value;
  return settings;
}

// The last query's probabilities in both heads; all queries before it saw nothing.
AttentionSource last_row(std::vector<float> first, std::vector<float> second) {
  return [=](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 2, 0.0f);
    const auto last = (std::ptrdiff_t)((n_rows - 1) * n_entries);
    std::copy(first.begin(), first.end(), rows.begin() + last);
    std::copy(second.begin(), second.end(), rows.begin() + (std::ptrdiff_t)(n_rows * n_entries) + last);
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

TEST(Trellis, ReadsOnFromWhatAPromptWants) {
  const auto held = [](double onward) {
    const auto p = trellis_policy().make(bare_with("onward", onward), kShape, 9);
    SimulatedCache cache(kShape, p->traits());
    cache.feed(*p, Phase::kPrefill, 16, last_row({0, 0, 0, 0, 0.9f, 0, 0, 0, 0, 0, 0, 0, 0.1f, 0, 0, 0}));
    return cache.held(0);
  };
  // Pooled, entries 2 to 6 count 0.18 each, 10 to 14 count 0.02. On from 6, 7 counts 0.144, 8 counts 0.115 and so on.
  EXPECT_EQ(held(0), (PositionList{2, 3, 4, 5, 6, 12, 13, 14, 15}));
  EXPECT_EQ(held(0.8), (PositionList{2, 3, 4, 5, 6, 7, 8, 9, 15}));
  EXPECT_EQ(held(0.1), (PositionList{2, 3, 4, 5, 6, 12, 13, 14, 15}));
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

TEST(Trellis, CountsNoneOfAPromptAmongTheNewestOfAnAnswer) {
  const auto p = trellis_policy().make(bare_with("recent", 1), kShape, 4);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 6, last_row({0.4f, 0.4f, 0.4f, 0, 0, 0}));
  EXPECT_EQ(cache.held(0), (PositionList{0, 1, 2, 5}));
  cache.feed(*p, Phase::kDecode, 1, last_row({0.1f, 0.9f, 0, 0, 0}));
  EXPECT_EQ(cache.held(0), (PositionList{0, 1, 2, 6}));
}

TEST(Trellis, KeepsRungsOfOldRegionsInAnAnswer) {
  const auto regions = [](double ladder) {
    const auto p = trellis_policy().make(bare_with("ladder", ladder), kShape, 8);
    SimulatedCache cache(kShape, p->traits());
    // The later an entry, the more it is seen, whoever looks.
    for (int i = 0; i < 64; ++i) {
      cache.feed(*p, Phase::kDecode, 1, [&](int, std::size_t n_entries, std::size_t) {
        std::vector<float> rows(n_entries * 2);
        for (std::size_t e = 0; e < rows.size(); ++e) {
          rows[e] = e % n_entries < cache.held(0).size() ? (float)cache.held(0)[e % n_entries] / 64 : 1;
        }
        return rows;
      });
    }
    std::vector<std::size_t> seen(4, 0);
    for (const std::int64_t token : cache.held(0)) ++seen[(std::size_t)token / 16];
    return seen;
  };
  EXPECT_EQ(regions(0)[0] + regions(0)[1], 0u);
  EXPECT_GT(regions(0.5)[0], 0u);
}

TEST(Trellis, LooksAtOneQueryOfAnAnswerInSoManyEntries) {
  const auto looks = [](std::size_t cache_size) {
    const auto p = trellis_policy().make({}, kShape, cache_size);
    SimulatedCache cache(kShape, p->traits());
    int n = 0;
    for (int i = 0; i < 16; ++i) {
      n += p->measures(Phase::kDecode, 0, 1, 1) != Measures{} ? 1 : 0;
      cache.feed(*p, Phase::kDecode, 1, last_row({1}));
    }
    return n;
  };
  EXPECT_EQ(looks(1023), 16);  // what a budget of 1,024 leaves
  EXPECT_EQ(looks(1025), 8);
  EXPECT_EQ(looks(4096), 4);
}

TEST(Trellis, AsksForAPromptsLastQueriesOnlyWhereItCuts) {
  const auto asked = [](PolicySettings settings, std::size_t n) {
    return trellis_policy().make(settings, kShape, 16)->measures(Phase::kPrefill, 0, n, n);
  };
  EXPECT_EQ(asked({}, 16), Measures{});
  EXPECT_EQ(asked({}, 17), (Measures{.window = 16}));
  EXPECT_EQ(asked({{"rows", 8}}, 17), (Measures{.window = 8}));
  EXPECT_EQ(asked({{"rows", 1}}, 17), (Measures{.window = 16, .last_row = true}));
  EXPECT_EQ(asked({{"rows", 1}, {"preference", 0}}, 17), (Measures{.window = 1}));
}

constexpr AttentionShape kLayers{.n_layer = 3, .n_head = 2, .n_head_kv = 1};

// Every query attends to one entry, in turn more and less: the later the layer, the more so.
AttentionSource later_layers_swing_more(std::size_t entry) {
  return [=](int layer, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 2, 0.01f);
    for (std::size_t r = 0; r < n_rows * 2; ++r) {
      rows[r * n_entries + entry] += (r % 2 == 0 ? 0.1f : 0.0f) * (float)(layer + 1);
    }
    return rows;
  };
}

TEST(TrellisLayers, ThoseThatShiftMoreGetMore) {
  const auto lengths = [](double preference) {
    const auto p = trellis_policy().make(bare_with("preference", preference), kLayers, 16);
    SimulatedCache cache(kLayers, p->traits());
    cache.feed(*p, Phase::kPrefill, 40, later_layers_swing_more(9));
    return std::vector<std::size_t>{cache.length(0), cache.length(1), cache.length(2)};
  };
  EXPECT_EQ(lengths(0), (std::vector<std::size_t>{16, 16, 16}));
  // Of 45 and a window each: shift is as 1 : 4 : 9, the square of the swing, dispersion as 3.51 : 3.60 : 3.63. What
  // rounding leaves is the first layer's.
  EXPECT_EQ(lengths(4), (std::vector<std::size_t>{1 + 4, 1 + 12, 1 + 29}));
}

TEST(TrellisLayers, ThoseSoFarShareTheWhole) {
  const auto p = trellis_policy().make(bare_with("preference", 4), kLayers, 16);
  SimulatedCache cache(kLayers, p->traits());
  cache.feed(*p, Phase::kPrefill, 40, later_layers_swing_more(9), [&](int layer) {
    if (layer == 0) {
      EXPECT_EQ(cache.length(0), 40u);
    } else if (layer == 1) {
      EXPECT_EQ(cache.length(0), 1u + 9);
      EXPECT_EQ(cache.length(1), 1u + 36);
    }
  });
}

TEST(TrellisLayers, ShareByManyQueriesWhatTheLastOneRanks) {
  const auto p = trellis_policy().make(bare_with("preference", 4), kShape, 4);
  SimulatedCache cache(kShape, p->traits());
  cache.feed(*p, Phase::kPrefill, 30, [](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 2, 0.0f);
    for (std::size_t r = 0; r < n_rows * 2; ++r) {
      const bool last = r % n_rows + 1 == n_rows;
      rows[r * n_entries + (last ? 20 : 9)] = 0.9f;
      if (last) rows[r * n_entries + 19] = rows[r * n_entries + 21] = 0.5f;
    }
    return rows;
  });
  EXPECT_EQ(cache.held(0), (PositionList{19, 20, 21, 29}));
}

TEST(TrellisLayers, AChunkedPromptDropsNothingBlindly) {
  // The first chunk fits and was never scored: the second must not cut layer 1 before it is seen.
  const auto p = trellis_policy().make(bare_with("preference", 4), kLayers, 16);
  SimulatedCache cache(kLayers, p->traits());
  cache.feed(*p, Phase::kPrefill, 16, {});
  std::size_t most = 0;
  cache.feed(*p, Phase::kPrefill, 16, later_layers_swing_more(9), [&](int layer) {
    most = std::max(most, cache.total_length());
    if (layer == 0) {
      EXPECT_EQ(cache.length(1), 16u);
    }
  });
  EXPECT_LE(most, 3 * 16u);
}

TEST(TrellisLayers, DecodingKeepsToTheirSizes) {
  const auto p = trellis_policy().make(bare_with("preference", 4), kLayers, 16);
  SimulatedCache cache(kLayers, p->traits());
  cache.feed(*p, Phase::kPrefill, 40, later_layers_swing_more(9));
  for (int i = 0; i < 8; ++i) cache.feed(*p, Phase::kDecode, 1, later_layers_swing_more(0));
  EXPECT_EQ(cache.length(0), 5u);
  EXPECT_EQ(cache.length(2), 30u);
}

constexpr AttentionShape kTwoLayers{.n_layer = 2, .n_head = 4, .n_head_kv = 2};

// The simulated cache takes similarities from the attention source: here those of layer 1 are lower.
std::vector<float> alike(int layer, std::size_t n_entries, std::size_t n_rows) {
  std::vector<float> rows(n_entries * n_rows * 4);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] = (i % n_entries % 7 == 3 ? 0.1f : 0.8f) - 0.05f * (float)layer;
  }
  return rows;
}

TEST(TrellisBeforeAQuestion, KeepsTheKeysThatDifferMostInAnyLayer) {
  const auto p =
      trellis_policy().make({{"sinks", 1}, {"window", 2}, {"floor", 0}, {"defence", 0}, {"length", 0}}, kTwoLayers, 12);
  SimulatedCache cache(kTwoLayers, p->traits());
  cache.expect_more(true);
  cache.feed(*p, Phase::kPrefill, 49, alike);
  EXPECT_GT(cache.slots(1), cache.slots(0));
  const PositionList& held = cache.held(1);
  for (const std::int64_t token : {3, 10, 17, 24, 31, 38, 45}) {
    EXPECT_NE(std::find(held.begin(), held.end(), token), held.end()) << token;
  }
}

TEST(TrellisBeforeAQuestion, TheQuestionChangesNoListsLength) {
  const auto p = trellis_policy().make({{"sinks", 1}, {"window", 2}}, kTwoLayers, 12);
  SimulatedCache cache(kTwoLayers, p->traits());
  cache.expect_more(true);
  cache.feed(*p, Phase::kPrefill, 49, alike);
  const std::size_t first = cache.slots(0), second = cache.slots(1);
  cache.expect_more(false);
  cache.feed(*p, Phase::kPrefill, 5, alike);
  EXPECT_EQ(cache.slots(0), first);
  EXPECT_EQ(cache.slots(1), second);
  EXPECT_EQ(cache.held(1).back(), 53);
}

TEST(TrellisBeforeAQuestion, AsksForWhatItsWorthIsMadeOf) {
  const auto asks = [](const PolicySettings& settings) {
    return trellis_policy().make(settings, kShape, 12)->measures_before_question(0, 49, 49);
  };
  EXPECT_EQ(asks({{"defence", 0}, {"length", 0}}), (Measures{.key_similarity = true}));
  EXPECT_EQ(asks({{"length", 0}}),
            (Measures{.window = 32, .key_similarity = true, .window_peak = true, .window_mean = false}));
  EXPECT_EQ(asks({{"replay", "on"}}), (Measures{.key_similarity = true,
                                                .group_mean = true,
                                                .value_norm = ValueNorm::kOutput,
                                                .repeat = RepeatScore::kPeak,
                                                .repeat_sinks = 4}));
  const auto seen = trellis_policy().make({{"question", "seen"}}, kShape, 12);
  EXPECT_EQ(seen->measures_before_question(0, 49, 49), seen->measures(Phase::kPrefill, 0, 49, 49));
}

TEST(TrellisBeforeAQuestion, LooksAtTheLastQueryOfAQuestionBehindTheText) {
  const AttentionSource alike = [](int, std::size_t n_entries, std::size_t n_rows) {
    return std::vector<float>(n_entries * n_rows * 4, 1 / (float)n_entries);
  };
  const auto window_behind = [&](const PolicySettings& settings) {
    const auto p = trellis_policy().make(settings, kTwoLayers, 12);
    SimulatedCache cache(kTwoLayers, p->traits());
    cache.expect_more(true);
    cache.feed(*p, Phase::kPrefill, 49, alike);
    return p->measures(Phase::kPrefill, 0, 49, 37).window;
  };
  EXPECT_EQ(window_behind({}), 1);
  EXPECT_EQ(window_behind({{"rows", 8}}), 8);
  EXPECT_EQ(window_behind({{"question", "seen"}}), 16);
}

TEST(TrellisBeforeAQuestion, RefusesSettingsThatWouldDoNothing) {
  const auto made = [](const PolicySettings& settings) { trellis_policy().make(settings, kShape, 12); };
  EXPECT_THROW(made({{"question", "seen"}, {"heads", "joint"}}), Error);
  EXPECT_THROW(made({{"question", "seen"}, {"replay", "on"}}), Error);
  EXPECT_THROW(made({{"positions", "compacted"}, {"worth", 1}}), Error);
  EXPECT_THROW(made({{"replay", "on"}, {"length", 1}}), Error);
  EXPECT_THROW(made({{"learned", "on"}}), Error);  // a model without
  AttentionShape calibrated = kShape;
  calibrated.calibration = 7;
  EXPECT_THROW(trellis_policy().make({{"learned", "on"}, {"replay", "on"}}, calibrated, 12), Error);
  EXPECT_THROW(trellis_policy().make({{"learned", "on"}, {"question", "seen"}}, calibrated, 12), Error);
}

TEST(TrellisBeforeAQuestion, KeepsWhatTheCalibrationSaysAndLooksAtNothingElse) {
  AttentionShape calibrated = kTwoLayers;
  calibrated.calibration = 7;
  const auto p = trellis_policy().make({{"sinks", 1}, {"window", 2}, {"floor", 0}, {"learned", "on"}}, calibrated, 12);
  EXPECT_EQ(p->measures_before_question(0, 49, 49), (Measures{.learned = true}));
  SimulatedCache cache(calibrated, p->traits());
  cache.expect_more(true);
  // What the source gives is what was learned: most of every seventh token from the fourth on.
  const AttentionSource learned = [](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 4);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = i % n_entries % 7 == 3 ? -1.0f : -5.0f;
    return rows;
  };
  // In two parts, of which the first fits: its scores are known when the second is cut.
  cache.feed(*p, Phase::kPrefill, 10, learned);
  cache.feed(*p, Phase::kPrefill, 39, learned);
  for (int layer = 0; layer < 2; ++layer) {
    const PositionList& held = cache.held(layer);
    for (const std::int64_t token : {3, 10, 17, 24, 31, 38, 45}) {
      EXPECT_NE(std::find(held.begin(), held.end(), token), held.end()) << token;
    }
  }
}

TEST(TrellisBeforeAQuestion, LeavesNoRegionOfTheTextToNobodyWhereAskedTo) {
  AttentionShape calibrated = kTwoLayers;
  calibrated.calibration = 7;
  // All worth is in the text's second half, of the first the tenth token has most.
  const AttentionSource learned = [](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 4);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = i % n_entries > 24 ? -1.0f : i % n_entries == 10 ? -4 : -5;
    return rows;
  };
  const auto of_first_half = [&](double regions) {
    const auto p = trellis_policy().make(
        {{"sinks", 1}, {"window", 2}, {"floor", 0}, {"learned", "on"}, {"regions", regions}}, calibrated, 11);
    SimulatedCache cache(calibrated, p->traits());
    cache.expect_more(true);
    cache.feed(*p, Phase::kPrefill, 50, learned);
    std::set<std::int64_t> held;
    for (int layer = 0; layer < 2; ++layer) {
      for (const std::int64_t token : cache.held(layer)) {
        if (token > 0 && token < 25) held.insert(token);
      }
    }
    return held;
  };
  EXPECT_TRUE(of_first_half(0).empty());
  const std::set<std::int64_t> held = of_first_half(0.5);  // four regions, of which two begin there
  EXPECT_TRUE(held.contains(10));
  EXPECT_TRUE(std::ranges::any_of(held, [](std::int64_t token) { return token > 12; }));
}

TEST(TrellisBeforeAQuestion, TakesAModelsCalibrationWhereItIsAndNobodySaidOtherwise) {
  AttentionShape calibrated = kShape;
  calibrated.calibration = 7;
  const auto more = [&](const PolicySettings& given, const AttentionShape& shape) {
    return trellis_policy().settings_at_opening(given, shape, 0);
  };
  EXPECT_EQ(more({}, calibrated), (PolicySettings{{"learned", "on"}}));
  EXPECT_EQ(more({}, kShape), PolicySettings{});
  for (const PolicySettings& given :
       {PolicySettings{{"learned", "off"}}, PolicySettings{{"replay", "on"}}, PolicySettings{{"question", "seen"}},
        PolicySettings{{"heads", "joint"}}, PolicySettings{{"positions", "compacted"}}}) {
    EXPECT_EQ(more(given, calibrated), PolicySettings{});
  }
}

TEST(TrellisBeforeAQuestion, KeepsWhatTheModelLookedAtWhenItRepeatedTheText) {
  const auto p = trellis_policy().make({{"sinks", 1}, {"window", 2}, {"floor", 0}, {"replay", "on"}}, kTwoLayers, 12);
  EXPECT_EQ(p->traits().repeat_chunk, 2000u);
  SimulatedCache cache(kTwoLayers, p->traits());
  cache.expect_more(true);
  // What the source gives is what a repeat saw: most of every seventh token from the fourth on.
  const AttentionSource looked_at = [](int, std::size_t n_entries, std::size_t n_rows) {
    std::vector<float> rows(n_entries * n_rows * 4);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = i % n_entries % 7 == 3 ? 0.9f : 0.01f;
    return rows;
  };
  cache.feed(*p, Phase::kPrefill, 49, looked_at);
  for (int layer = 0; layer < 2; ++layer) {
    for (const std::int64_t token : {3, 10, 17, 24, 31, 38, 45}) {
      const PositionList& held = cache.held(layer);
      EXPECT_NE(std::find(held.begin(), held.end(), token), held.end()) << token;
    }
  }
}

}  // namespace
}  // namespace lacake
