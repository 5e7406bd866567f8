#include "cache/cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cache/test_memory.h"

namespace lacake {
namespace {

using Indices = std::vector<std::uint32_t>;

constexpr CacheShape kShape{
    .n_layer = 2, .n_head_kv = 2, .d_k = 4, .d_v = 4, .type_k = GGML_TYPE_F32, .type_v = GGML_TYPE_F32};
constexpr PolicyTraits kShared{};
constexpr PolicyTraits kPerHead{.per_head = true, .uneven_layers = true, .uneven_heads = true, .ordered = false};

// A cache whose rows say whose they are: layer, head and token in every float.
class Labelled {
 public:
  explicit Labelled(const PolicyTraits& traits, std::size_t entries_per_layer = 32)
      : cache(kShape, traits, entries_per_layer * (std::size_t)kShape.n_layer * kShape.entry_bytes(),
              test_memory().pool, test_memory().mover) {
    cache.divide(std::vector<std::size_t>(kShape.n_lanes(), entries_per_layer));
  }

  static float label(int layer, int head, std::int64_t token) {
    return (float)(layer * 100000 + head * 10000) + (float)token;
  }

  // Rows of `n` new tokens in blocks of more rows than are filled, as a workspace has them.
  SegmentRows segment(int layer, std::int64_t first_position, std::size_t n) {
    const std::size_t capacity = n + 3;
    rows_.assign(capacity * 2 * 4, -1);
    for (int h = 0; h < 2; ++h) {
      for (std::size_t i = 0; i < n; ++i) {
        std::fill_n(rows_.begin() + (std::ptrdiff_t)(((std::size_t)h * capacity + i) * 4), 4,
                    label(layer, h, first_position + (std::int64_t)i));
      }
    }
    negated_ = rows_;
    for (float& v : negated_) v = -v;
    return {.k = (const std::byte*)rows_.data(),
            .v = (const std::byte*)negated_.data(),
            .capacity = capacity,
            .n = n,
            .first_position = first_position};
  }

  void append(std::int64_t first_position, std::size_t n) {
    for (int l = 0; l < kShape.n_layer; ++l) cache.append(l, segment(l, first_position, n));
  }

  // As decode does it: attention writes the rows.
  void append_one(std::int64_t token) {
    cache.append(token);
    for (int l = 0; l < kShape.n_layer; ++l) {
      for (int h = 0; h < kShape.n_head_kv; ++h) {
        std::fill_n((float*)cache.new_k(l, h), 4, label(l, h, token));
        std::fill_n((float*)cache.new_v(l, h), 4, -label(l, h, token));
      }
    }
  }

  // That entry i of the lane is tokens[i], and its rows are that token's.
  void expect(int layer, int head, const std::vector<std::int32_t>& tokens) const {
    const auto held = cache.positions(layer, head);
    ASSERT_EQ(std::vector<std::int32_t>(held.begin(), held.end()), tokens);
    ASSERT_EQ(cache.length(layer, head), tokens.size());
    const attention::Rows rows = cache.rows(layer, head);
    ASSERT_EQ(rows.n, tokens.size());
    Indices slots(cache.slots(layer, head).begin(), cache.slots(layer, head).end());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto* k = (const float*)((const std::byte*)rows.k + slots[i] * rows.k_stride);
      const auto* v = (const float*)((const std::byte*)rows.v + slots[i] * rows.v_stride);
      for (int d = 0; d < 4; ++d) {
        ASSERT_EQ(k[d], label(layer, head, tokens[i])) << "layer " << layer << " head " << head << " entry " << i;
        ASSERT_EQ(v[d], -label(layer, head, tokens[i])) << "layer " << layer << " head " << head << " entry " << i;
      }
      if (rows.rope_index) {
        ASSERT_EQ(rows.rope_index[slots[i]], (std::int32_t)i);
      }
    }
    std::sort(slots.begin(), slots.end());
    for (std::size_t i = 0; i < slots.size(); ++i) ASSERT_EQ(slots[i], i) << "slots are a permutation";
  }

  // Rows of the whole arena, to be compared.
  std::vector<float> snapshot(int layer, int head) const {
    const attention::Rows rows = cache.rows(layer, head);
    return {(const float*)rows.k, (const float*)rows.k + rows.n * 4};
  }

  Cache cache;

 private:
  std::vector<float> rows_, negated_;
};

std::vector<std::int32_t> run(int first, int end) {
  std::vector<std::int32_t> tokens((std::size_t)(end - first));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

std::vector<std::int32_t> joined(std::vector<std::int32_t> a, const std::vector<std::int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Indices all_but(std::size_t n, std::uint32_t dropped) {
  Indices kept;
  for (std::uint32_t i = 0; i < n; ++i) {
    if (i != dropped) kept.push_back(i);
  }
  return kept;
}

TEST(Cache, DropsOneEntryByMovingOneRow) {
  Labelled labelled(kShared);
  labelled.append(0, 20);
  const std::vector<float> before = labelled.snapshot(0, 1);
  labelled.cache.compact(0, {{all_but(20, 5)}});
  const std::vector<float> after = labelled.snapshot(0, 1);
  ASSERT_EQ(after.size(), before.size() - 4);
  int changed = 0;
  for (std::size_t slot = 0; slot < 19; ++slot) changed += after[slot * 4] != before[slot * 4];
  EXPECT_EQ(changed, 1);
  for (int h = 0; h < 2; ++h) labelled.expect(0, h, joined(run(0, 5), run(6, 20)));
  for (int h = 0; h < 2; ++h) labelled.expect(1, h, run(0, 20));
}

// Whatever was dropped and appended before, `drop` leaves what `compact` with all the others leaves.
TEST(Cache, ADropIsACompactionOfOneEntryLess) {
  std::mt19937 random(3);
  for (const Positions positions : {Positions::kOriginal, Positions::kCompacted}) {
    for (const bool per_head : {false, true}) {
      Labelled dropped(PolicyTraits{.positions = positions, .per_head = per_head, .uneven_heads = per_head});
      std::vector<std::vector<std::int32_t>> expected(2, run(0, 12));
      dropped.append(0, 12);
      for (std::int32_t token = 12; token < 29; ++token) {
        Indices entries;
        for (std::size_t h = 0; h < (per_head ? 2u : 1u); ++h) {
          entries.push_back(per_head && token % 7 == (int)h ? CacheEdits::kNoEntry
                                                            : (std::uint32_t)(random() % expected[h].size()));
        }
        dropped.cache.drop(1, entries);
        for (std::size_t h = 0; h < 2; ++h) {
          const std::uint32_t entry = entries[per_head ? h : 0];
          if (entry != CacheEdits::kNoEntry) expected[h].erase(expected[h].begin() + entry);
          dropped.expect(1, (int)h, expected[h]);
        }
        dropped.expect(0, 0, run(0, token));
        dropped.append_one(token);
        for (auto& tokens : expected) tokens.push_back(token);
      }
    }
  }
}

TEST(Cache, DroppingTheLastEntryMovesNothing) {
  Labelled labelled(kShared);
  labelled.append(0, 20);
  std::vector<float> before = labelled.snapshot(1, 0);
  labelled.cache.compact(1, {{all_but(20, 19)}});
  before.resize(19 * 4);
  EXPECT_EQ(labelled.snapshot(1, 0), before);
}

TEST(Cache, KeepsOrderOfASelection) {
  Labelled labelled(kPerHead);
  labelled.append(0, 8);
  labelled.cache.compact(0, {{{7, 0, 3, 1}}});
  for (int h = 0; h < 2; ++h) labelled.expect(0, h, {7, 0, 3, 1});
  labelled.cache.compact(0, {{{2, 1, 0}}});  // indices are those of the stored order
  for (int h = 0; h < 2; ++h) labelled.expect(0, h, {3, 0, 7});
}

TEST(Cache, DuplicatesAreStoredTwice) {
  Labelled labelled({.ordered = false});
  labelled.append(0, 6);
  labelled.cache.compact(0, {{{0, 4, 4, 5, 0}}});
  for (int h = 0; h < 2; ++h) labelled.expect(0, h, {0, 4, 4, 5, 0});
  labelled.cache.compact(0, {{{1, 1, 1, 2, 2, 0, 4}}});  // more than there were
  for (int h = 0; h < 2; ++h) labelled.expect(0, h, {4, 4, 4, 4, 4, 0, 0});
}

TEST(Cache, FreshRowsTakeFreedSlots) {
  Labelled labelled(kShared);
  labelled.append(0, 6);
  const SegmentRows fresh = labelled.segment(0, 6, 4);
  labelled.cache.compact(0, {{{0, 1, 4, 7, 8, 9}}}, fresh);
  for (int h = 0; h < 2; ++h) labelled.expect(0, h, {0, 1, 4, 7, 8, 9});
  const auto slots = labelled.cache.slots(0, 0);
  EXPECT_EQ(Indices(slots.begin(), slots.end()), (Indices{0, 1, 4, 2, 3, 5}));
}

TEST(Cache, AFirstSegmentCanBeSelectedFrom) {
  Labelled labelled(kPerHead);
  const SegmentRows fresh = labelled.segment(0, 0, 10);
  labelled.cache.compact(0, {{{9, 3}, {8, 2, 4}}}, fresh);
  labelled.expect(0, 0, {9, 3});
  labelled.expect(0, 1, {8, 2, 4});
}

TEST(Cache, PerHeadSelectionsDiffer) {
  Labelled labelled(kPerHead);
  labelled.append(0, 10);
  labelled.cache.compact(1, {{{0, 2, 4}, {9, 1}}});
  labelled.expect(1, 0, {0, 2, 4});
  labelled.expect(1, 1, {9, 1});
  EXPECT_EQ(labelled.cache.length(1), 3u);
  labelled.append_one(10);
  labelled.expect(1, 0, {0, 2, 4, 10});
  labelled.expect(1, 1, {9, 1, 10});
  labelled.expect(0, 0, run(0, 11));
}

TEST(Cache, IndicesFollowTheStoredOrder) {
  PolicyTraits traits = kShared;
  traits.positions = Positions::kCompacted;
  Labelled labelled(traits);
  labelled.append(0, 9);
  labelled.cache.compact(0, {{{0, 5, 6, 7, 8}}});
  labelled.append_one(9);
  for (int h = 0; h < 2; ++h) labelled.expect(0, h, {0, 5, 6, 7, 8, 9});
  labelled.cache.compact(0, {{{0, 2, 5}}});
  for (int h = 0; h < 2; ++h) labelled.expect(0, h, {0, 6, 9});
  Labelled true_positions(kShared);
  EXPECT_EQ(true_positions.cache.rows(0, 0).rope_index, nullptr);
}

// Against lists of tokens that are rebuilt from scratch.
TEST(Cache, AgreesWithPlainListsOfTokens) {
  for (unsigned seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    PolicyTraits traits = seed % 2 ? kPerHead : kShared;
    if (seed % 3 == 0) traits.positions = Positions::kCompacted;
    Labelled labelled(traits);
    std::vector<std::vector<std::int32_t>> plain(kShape.n_lanes());
    const auto lane = [](int l, int h) { return (std::size_t)(l * 2 + h); };
    std::int32_t n_past = 0;
    for (int round = 0; round < 30; ++round) {
      const std::size_t n_new = 1 + random() % 6;
      const bool decode = random() % 2 == 0;
      if (decode && (labelled.cache.has_room(0) && labelled.cache.has_room(1))) {
        labelled.append_one(n_past);
        for (auto& tokens : plain) tokens.push_back(n_past);
        ++n_past;
      }
      for (int l = 0; l < kShape.n_layer; ++l) {
        const SegmentRows fresh = decode ? SegmentRows{} : labelled.segment(l, n_past, n_new);
        Selection selection;
        std::vector<std::vector<std::int32_t>> next;
        for (int h = 0; h < 2; ++h) {
          const auto& old = plain[lane(l, h)];
          if (h == 0 || traits.per_head) {
            Indices kept((old.size() + fresh.n));
            std::iota(kept.begin(), kept.end(), 0u);
            if (!traits.ordered) std::shuffle(kept.begin(), kept.end(), random);
            while (kept.size() > 20 || (!kept.empty() && random() % 3 == 0)) {
              kept.erase(kept.begin() + (std::ptrdiff_t)(random() % kept.size()));
            }
            if (!traits.ordered && !kept.empty()) kept.push_back(kept[random() % kept.size()]);
            selection.heads.push_back(kept);
          }
          std::vector<std::int32_t> tokens;
          for (const std::uint32_t i : selection.heads.back()) {
            tokens.push_back(i < old.size() ? old[i] : n_past + (std::int32_t)(i - old.size()));
          }
          next.push_back(tokens);
        }
        labelled.cache.make_room(l, std::vector<std::size_t>{next[0].size(), next[1].size()});
        labelled.cache.compact(l, selection, fresh);
        for (int h = 0; h < 2; ++h) plain[lane(l, h)] = next[(std::size_t)h];
      }
      if (!decode) n_past += (std::int32_t)n_new;
      labelled.cache.divide(std::vector<std::size_t>(kShape.n_lanes(), 32));
      for (int l = 0; l < 2; ++l) {
        for (int h = 0; h < 2; ++h) ASSERT_NO_FATAL_FAILURE(labelled.expect(l, h, plain[lane(l, h)]));
      }
    }
  }
}

TEST(Cache, ALayerGetsTheRoomThatOthersDoNotUse) {
  Labelled labelled(kPerHead, 10);
  labelled.append(0, 4);
  labelled.cache.make_room(1, std::vector<std::size_t>{15, 13});
  EXPECT_EQ(labelled.cache.arena().capacity(2), 15u);
  EXPECT_EQ(labelled.cache.arena().capacity(3), 13u);
  for (int l = 0; l < 2; ++l) {
    for (int h = 0; h < 2; ++h) labelled.expect(l, h, run(0, 4));
  }
}

// Heads of a full layer change their sizes: together they never need more than they had.
TEST(Cache, WhatOneHeadGivesUpAnotherTakes) {
  Labelled labelled(PolicyTraits{.per_head = true, .uneven_heads = true}, 10);
  labelled.append(0, 10);
  const SegmentRows fresh = labelled.segment(1, 10, 8);
  Indices few(4), many(16);
  std::iota(few.begin(), few.end(), 3u);
  std::iota(many.begin(), many.end(), 2u);
  labelled.cache.compact(1, {{many, few}}, fresh);
  labelled.expect(1, 0, run(2, 18));
  labelled.expect(1, 1, run(3, 7));
  labelled.expect(0, 0, run(0, 10));
}

TEST(Cache, HasRoomOnlyIfEveryLaneHas) {
  Labelled labelled(kShared, 5);
  labelled.append(0, 4);
  EXPECT_TRUE((labelled.cache.has_room(0) && labelled.cache.has_room(1)));
  labelled.append_one(4);
  EXPECT_FALSE((labelled.cache.has_room(0) && labelled.cache.has_room(1)));
  labelled.cache.compact(0, {{{0, 1}}});
  EXPECT_FALSE((labelled.cache.has_room(0) && labelled.cache.has_room(1)));
}

TEST(Cache, TextShowsRunsAndStepsBack) {
  Labelled labelled({.ordered = false}, 64);
  labelled.append(0, 64);
  labelled.cache.compact(0, {{{0, 1, 2, 3, 17, 21, 22, 9}}});
  EXPECT_EQ(labelled.cache.text(0, 0), "0-3 17 21-22 | 9");
  labelled.cache.compact(1, {{{5, 5, 6, 63, 0, 1}}});
  EXPECT_EQ(labelled.cache.text(1, 1), "5 | 5-6 63 | 0-1");
  EXPECT_EQ(Labelled(kShared).cache.text(0, 0), "");
}

TEST(Cache, MetadataCountsOrdersPositionsAndIndices) {
  EXPECT_EQ(Cache::metadata_bytes(kShape, kShared, 10), 10u * 8);
  EXPECT_EQ(Cache::metadata_bytes(kShape, kPerHead, 10), 10u * 2 * 8);
  EXPECT_EQ(Cache::metadata_bytes(kShape, {.positions = Positions::kCompacted}, 10), 10u * 12);
}

}  // namespace
}  // namespace lacake
