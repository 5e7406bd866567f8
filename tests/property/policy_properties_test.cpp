// What every policy of the registry promises, whatever it is: driven through the public interface on synthetic
// attention.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <typeinfo>

#include "property/every_policy.h"

namespace lacake::simulation {
namespace {

INSTANTIATE_TEST_SUITE_P(Policies, EveryPolicy, testing::ValuesIn(policy_names()), test_name);

TEST_P(EveryPolicy, StaysWithinItsLargestAtEveryStep) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    std::size_t most = 0;
    run(trial, conversation, policy, cache, nothing, nothing,
        [&](int) { most = std::max(most, cache.total_length()); });
    ASSERT_LE(most, trial.largest_total());
    // A token in flight counts.
    ASSERT_LE(cache.peak_decode_length(), trial.largest_total());
  });
}

TEST_P(EveryPolicy, ReservesWhatItMayHoldAndNoMoreThanItsLargest) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    const auto expect_reserves = [&](Policy& p, const SimulatedCache& c) {
      std::size_t sum = 0;  // over all heads, in parts of an entry
      for (int head = 0; head < trial.shape.n_head_kv; ++head) {
        for (int layer = 0; layer < trial.shape.n_layer; ++layer) {
          const std::size_t reserved = p.reserve(layer, head);
          sum += reserved;
          // The next token must fit, unless all of the conversation is in.
          const bool complete = c.n_past() == (std::int64_t)conversation.n_tokens();
          ASSERT_LE(c.held(layer, head).size() + (complete ? 0 : 1), reserved) << "layer " << layer;
        }
      }
      ASSERT_LE(sum, trial.largest_total() * (std::size_t)trial.shape.n_head_kv);
    };
    run(trial, conversation, policy, cache, expect_reserves, expect_reserves);
  });
}

TEST_P(EveryPolicy, KeepsTheEntriesThatItProtects) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    run(trial, conversation, policy, cache, nothing, [&](Policy& p, const SimulatedCache& c) {
      const auto n = (std::size_t)c.n_past();
      const std::size_t sinks = std::min(p.traits().sinks, n);
      const std::size_t window = std::min(p.traits().window, n);
      for (int layer = 0; layer < trial.shape.n_layer; ++layer) {
        for (int head = 0; head < trial.shape.n_head_kv; ++head) {
          PositionList held = c.held(layer, head);
          std::sort(held.begin(), held.end());
          ASSERT_GE(held.size(), std::max(sinks, window));
          for (std::size_t i = 0; i < sinks; ++i) ASSERT_EQ(held[i], (std::int64_t)i);
          for (std::size_t i = 1; i <= window; ++i) {
            ASSERT_EQ(held[held.size() - i], (std::int64_t)(n - i)) << "layer " << layer;
          }
        }
      }
    });
  });
}

TEST_P(EveryPolicy, HoldsAscendingUniquePositionsUnlessItDeclaresOtherwise) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    run(trial, conversation, policy, cache, nothing, [&](Policy& p, const SimulatedCache& c) {
      for (int layer = 0; layer < trial.shape.n_layer && p.traits().ordered; ++layer) {
        const PositionList& held = c.held(layer);
        ASSERT_EQ(std::adjacent_find(held.begin(), held.end(), std::greater_equal<>()), held.end());
      }
    });
  });
}

TEST_P(EveryPolicy, LayersAreEquallyLongUnlessItDeclaresOtherwise) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    run(trial, conversation, policy, cache, nothing, [&](Policy& p, const SimulatedCache& c) {
      for (int layer = 1; layer < trial.shape.n_layer && !p.traits().uneven_layers; ++layer) {
        ASSERT_EQ(c.slots(layer), c.slots(0));
        if (!p.traits().uneven_heads) {
          ASSERT_EQ(c.length(layer), c.length(0));
        }
      }
    });
  });
}

TEST_P(EveryPolicy, DropsNothingWhileAllFitsIntoItsCacheSize) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    run(trial, conversation, policy, cache, nothing, [&](Policy&, const SimulatedCache& c) {
      if ((std::size_t)c.n_past() > trial.cache_size) return;
      ASSERT_EQ(c.n_selections(), 0u);
    });
  });
}

TEST_P(EveryPolicy, GivesTheSameAnswersToTheSameCalls) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    run(trial, conversation, policy, cache, nothing, nothing);
    const std::unique_ptr<Policy> again = trial.make();
    SimulatedCache second(trial.shape, again->traits());
    run(trial, conversation, *again, second, nothing, nothing);
    for (int layer = 0; layer < trial.shape.n_layer; ++layer) {
      for (int head = 0; head < trial.shape.n_head_kv; ++head) {
        ASSERT_EQ(cache.held(layer, head), second.held(layer, head));
      }
    }
  });
}

TEST_P(EveryPolicy, KeepsNoMoreWhileAPromptIsReadThanItSays) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    const auto n_layer = (std::size_t)trial.shape.n_layer;
    std::size_t n_held = 0, n_fed = 0, most = 0;
    run(
        trial, conversation, policy, cache,
        [&](Policy&, const SimulatedCache& c) {
          n_held = (c.total_length() + n_layer - 1) / n_layer;
          n_fed = (std::size_t)c.n_past();
          most = 0;
        },
        [&](Policy& p, const SimulatedCache& c) {
          const std::size_t n_new = (std::size_t)c.n_past() - n_fed;
          if (n_new == 1) return;  // maybe a token of an answer
          const std::size_t peak = p.peak_entries(n_held, n_new);
          ASSERT_LE(most, peak * n_layer);
          ASSERT_LE(peak, n_held + n_new);
        },
        [&](int) { most = std::max(most, cache.total_length()); });
  });
}

TEST_P(EveryPolicy, ACopyDecidesAsTheOriginalDoes) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache) {
    const AttentionSource attention = synthetic_attention(trial.shape, trial.seed);
    std::size_t n = 0;
    for (const Segment& segment : conversation.segments) {
      for (std::size_t i = 0; i < segment.times; ++i) {
        // Not of every segment, but in all states.
        const std::unique_ptr<Policy> copy = n++ % 29 == 0 ? policy.clone() : nullptr;
        SimulatedCache second = cache;
        if (!accepts(policy, segment, cache)) continue;
        cache.feed(policy, segment.phase, segment.n_new, attention);
        if (!copy) continue;
        ASSERT_EQ(typeid(*copy), typeid(policy));
        // A copy of the copy goes further, to see that neither sees what the other is shown.
        const std::unique_ptr<Policy> third = copy->clone();
        SimulatedCache ahead = second;
        ahead.feed(*third, segment.phase, segment.n_new, attention);
        if (accepts(*third, {Phase::kPrefill, 50}, ahead)) ahead.feed(*third, Phase::kPrefill, 50, attention);
        for (int j = 0; j < 5; ++j) ahead.feed(*third, Phase::kDecode, 1, attention);
        second.feed(*copy, segment.phase, segment.n_new, attention);
        expect_same(cache, second, trial.shape);
        for (int layer = 0; layer < trial.shape.n_layer; ++layer) {
          ASSERT_EQ(copy->reserve(layer, 0), policy.reserve(layer, 0));
        }
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

}  // namespace
}  // namespace lacake::simulation
