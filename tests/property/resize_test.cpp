// A budget that changes while a conversation lives: what every policy promises of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "property/every_policy.h"

namespace lacake::simulation {
namespace {

class EveryPolicyResized : public EveryPolicy {};

INSTANTIATE_TEST_SUITE_P(Policies, EveryPolicyResized, testing::ValuesIn(policy_names()), test_name);

std::size_t max_entries(const Trial& trial, std::size_t cache_size) {
  return trial.spec.type->max_entries_per_layer(trial.spec.settings, trial.shape, cache_size);
}

void expect_ordered_and_even(const Policy& policy, const SimulatedCache& cache, const AttentionShape& shape) {
  for (int layer = 0; layer < shape.n_layer; ++layer) {
    for (int head = 0; head < shape.n_head_kv && policy.traits().ordered; ++head) {
      const PositionList& held = cache.held(layer, head);
      ASSERT_EQ(std::adjacent_find(held.begin(), held.end(), std::greater_equal<>()), held.end());
    }
    if (!policy.traits().uneven_layers) {
      ASSERT_EQ(cache.slots(layer), cache.slots(0));
    }
  }
}

// The sinks, and the window from token `oldest` on: growth brings back nothing that went before it.
void expect_protected(const Policy& policy, const SimulatedCache& cache, const AttentionShape& shape,
                      std::int64_t oldest) {
  const std::int64_t n = cache.n_past();
  const auto sinks = std::min((std::int64_t)policy.traits().sinks, n);
  const std::int64_t first = std::max({n - (std::int64_t)policy.traits().window, oldest, std::int64_t{0}});
  for (int layer = 0; layer < shape.n_layer; ++layer) {
    for (int head = 0; head < shape.n_head_kv; ++head) {
      PositionList held = cache.held(layer, head);
      std::sort(held.begin(), held.end());
      const auto holds = [&](std::int64_t token) { return std::binary_search(held.begin(), held.end(), token); };
      for (std::int64_t token = 0; token < sinks; ++token) ASSERT_TRUE(holds(token)) << token << " in layer " << layer;
      for (std::int64_t token = first; token < n; ++token) ASSERT_TRUE(holds(token)) << token << " in layer " << layer;
    }
  }
}

// Feeds the conversation, resizing after every third segment; `check(cache_size)` after each step of either kind.
void run_resizing(const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache,
                  const std::function<void(std::size_t)>& check, const std::function<void()>& before_resize = {}) {
  const AttentionSource attention = synthetic_attention(trial.shape, trial.seed);
  std::size_t cache_size = trial.cache_size, n = 0, n_resized = 0;
  for (const Segment& segment : conversation.segments) {
    for (std::size_t i = 0; i < segment.times; ++i, ++n) {
      if (n % 3 == 0) {
        if (before_resize) before_resize();
        cache_size = size_number(n_resized++, trial);
        cache.resize(policy, cache_size);
        check(cache_size);
      }
      if (!accepts(policy, segment, cache)) continue;
      cache.feed(policy, segment.phase, segment.n_new, attention, [&](int) {
        ASSERT_LE(cache.total_length(), max_entries(trial, cache_size) * (std::size_t)trial.shape.n_layer);
      });
      check(cache_size);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST_P(EveryPolicyResized, FitsTheNewSizeAtOnceAndFromThereOn) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    const auto n_layer = (std::size_t)trial.shape.n_layer;
    run_resizing(trial, conversation, policy, cache, [&](std::size_t cache_size) {
      const std::size_t largest = max_entries(trial, cache_size);
      ASSERT_LE(cache.total_length(), (largest - 1) * n_layer);
      std::size_t reserved = 0;
      for (int layer = 0; layer < trial.shape.n_layer; ++layer) {
        for (int head = 0; head < trial.shape.n_head_kv; ++head) {
          reserved += policy.reserve(layer, head);
          ASSERT_LT(cache.held(layer, head).size(), policy.reserve(layer, head)) << "layer " << layer;
        }
      }
      ASSERT_LE(reserved, largest * n_layer * (std::size_t)trial.shape.n_head_kv);
    });
  });
}

TEST_P(EveryPolicyResized, KeepsWhatItProtectsInOrder) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    std::int64_t oldest = 0;
    std::size_t window = 0;
    run_resizing(
        trial, conversation, policy, cache,
        [&](std::size_t) {
          if (policy.traits().window > window) {
            oldest = std::max(oldest, cache.n_past() - (std::int64_t)window);
          }
          window = policy.traits().window;
          expect_ordered_and_even(policy, cache, trial.shape);
          expect_protected(policy, cache, trial.shape, oldest);
        },
        [&] { window = policy.traits().window; });
  });
}

TEST_P(EveryPolicyResized, BeforeAnythingIsFedIsAsIfItWereMadeSo) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    const std::size_t other = trial.cache_size + 13;
    const std::unique_ptr<Policy> resized = trial.spec.type->make(trial.spec.settings, trial.shape, other);
    SimulatedCache second(trial.shape, resized->traits());
    second.resize(*resized, trial.cache_size);
    ASSERT_EQ(second.n_selections(), 0u);
    run(trial, conversation, policy, cache, nothing, nothing);
    run(trial, conversation, *resized, second, nothing, nothing);
    expect_same(cache, second, trial.shape);
  });
}

TEST_P(EveryPolicyResized, GrowthEvictsNothingAndLaterEntriesStay) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    const AttentionSource attention = synthetic_attention(trial.shape, trial.seed);
    run(trial, conversation, policy, cache, nothing, nothing);
    const std::size_t n_selections = cache.n_selections();
    const std::size_t n_held = cache.total_length();
    cache.resize(policy, trial.cache_size + 45);
    ASSERT_EQ(cache.n_selections(), n_selections);
    for (int i = 0; i < 5; ++i) cache.feed(policy, Phase::kDecode, 1, attention);
    // Where layers are uneven, the room may be in some of them only.
    ASSERT_GT(cache.total_length(), n_held);
    if (!policy.traits().uneven_layers) {
      ASSERT_EQ(cache.n_selections(), n_selections);
    }
  });
}

TEST_P(EveryPolicyResized, GrowingBeforeItShrinksLosesNothingMore) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    if (!trial.spec.type->bounded) return;
    const std::size_t least = trial.spec.type->min_cache_size(trial.spec.settings, trial.shape);
    std::size_t n = 0;
    run(trial, conversation, policy, cache, nothing, [&](Policy& p, const SimulatedCache& c) {
      if (n++ % 29 != 0) return;
      for (const std::size_t size : {least, (least + trial.cache_size) / 2, trial.cache_size}) {
        const std::unique_ptr<Policy> direct = p.clone(), detour = p.clone();
        SimulatedCache shrunk = c, grown = c;
        shrunk.resize(*direct, size);
        for (const std::size_t more : {1, 30, 400}) grown.resize(*detour, trial.cache_size + more);
        grown.resize(*detour, size);
        expect_same(shrunk, grown, trial.shape);
        if (testing::Test::HasFatalFailure()) return;
      }
    });
  });
}

TEST_P(EveryPolicyResized, BelowTheLeastIsRefusedAndChangesNothing) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    const bool bounded = trial.spec.type->bounded;
    std::size_t n = 0;
    run(trial, conversation, policy, cache, nothing, [&](Policy& p, const SimulatedCache& c) {
      if (n++ % 29 != 0) return;
      const std::size_t least = trial.spec.type->min_cache_size(trial.spec.settings, trial.shape);
      const std::unique_ptr<Policy> untouched = p.clone();
      SimulatedCache refused = c, second = c;
      try {
        refused.resize(p, bounded ? least - 1 : c.length(0) - 1);
        FAIL() << "not refused";
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), bounded ? Error::Kind::kUsage : Error::Kind::kCapacity) << error.what();
        ASSERT_EQ(error.fields().subject, "policy " + trial.spec.type->name);
      }
      ASSERT_EQ(refused.n_selections(), c.n_selections());
      const std::unique_ptr<Policy> touched = p.clone();
      const AttentionSource attention = synthetic_attention(trial.shape, trial.seed);
      for (int i = 0; i < 3; ++i) {
        refused.feed(*touched, Phase::kDecode, 1, attention);
        second.feed(*untouched, Phase::kDecode, 1, attention);
      }
      expect_same(refused, second, trial.shape);
    });
  });
}

TEST_P(EveryPolicyResized, GivesTheSameAnswersToTheSameCalls) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    run_resizing(trial, conversation, policy, cache, [](std::size_t) {});
    const std::unique_ptr<Policy> again = trial.make();
    SimulatedCache second(trial.shape, again->traits());
    run_resizing(trial, conversation, *again, second, [](std::size_t) {});
    expect_same(cache, second, trial.shape);
  });
}

}  // namespace
}  // namespace lacake::simulation
