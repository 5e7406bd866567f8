#pragma once

// What tests of all policies share: attention, conversations, settings and sizes, and a fixture whose parameter names
// the policy, so that one can be chosen by --gtest_filter.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "lacake/error.h"
#include "lacake/policy_author.h"
#include "property/simulated_cache.h"
#include "property/specs.h"

namespace lacake::simulation {

// Heavy-tailed attention with a sink and a local band, other numbers for every seed, layer and call. Same seed, same
// numbers. A generator of one line, because the standard distributions took most of the tests' time.
inline AttentionSource synthetic_attention(const AttentionShape& shape, unsigned seed) {
  return [shape, seed](int layer, std::size_t n_entries, std::size_t n_rows) {
    std::uint64_t state = (seed * 1009ull + (unsigned)layer) * 100003ull + n_entries * 31 + n_rows;
    const auto noise = [&] {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      return (float)(state >> 40) / (float)(1 << 24);
    };
    const auto n_head = (std::size_t)shape.n_head;
    const float tail = 0.01f * (float)(1 + layer % 3);
    std::vector<float> rows(n_entries * n_rows * n_head, 0.0f);
    for (std::size_t r = 0; r < n_rows * n_head; ++r) {
      float* row = rows.data() + r * n_entries;
      const std::size_t visible = n_entries - n_rows + r % n_rows + 1;
      float sum = 0;
      for (std::size_t i = 0; i < visible; ++i) {
        sum += row[i] = tail / (noise() + tail) + (i == 0 || i + 4 > visible ? 1.0f : 0.0f);
      }
      for (std::size_t i = 0; i < visible; ++i) row[i] /= sum;
    }
    return rows;
  };
}

struct Segment {
  Phase phase;
  std::size_t n_new;
  std::size_t times = 1;
  bool more_follows = false;
};

struct Conversation {
  std::string name;
  std::vector<Segment> segments;

  std::size_t n_tokens() const {
    std::size_t n = 0;
    for (const Segment& s : segments) n += s.n_new * s.times;
    return n;
  }
};

inline std::vector<Conversation> conversations() {
  constexpr Phase kPrompt = Phase::kPrefill;
  constexpr Phase kDecode = Phase::kDecode;
  return {
      {"prompt and answer", {{kPrompt, 230}, {kDecode, 1, 25}}},
      {"short prompt, long answer", {{kPrompt, 9}, {kDecode, 1, 160}}},
      {"token by token", {{kDecode, 1, 170}}},
      {"chunks", {{kPrompt, 40, 6}, {kDecode, 1, 10}}},
      {"text before its question",
       {{kPrompt, 130, 1, true},
        {kPrompt, 20},
        {kDecode, 1, 30},
        {kPrompt, 40, 2, true},
        {kPrompt, 1},
        {kDecode, 1, 5}}},
      {"turns", {{kPrompt, 120}, {kDecode, 1, 20}, {kPrompt, 35}, {kDecode, 1, 20}, {kPrompt, 1}, {kDecode, 1, 5}}},
  };
}

struct Trial {
  PolicySpec spec;
  AttentionShape shape;
  std::size_t cache_size = 0;
  unsigned seed = 0;

  std::string text() const {
    return spec.text() + " C" + std::to_string(cache_size) + " L" + std::to_string(shape.n_layer) + " heads " +
           std::to_string(shape.n_head) + "/" + std::to_string(shape.n_head_kv) + " seed " + std::to_string(seed);
  }
  std::unique_ptr<Policy> make() const { return spec.type->make(spec.settings, shape, cache_size); }
  std::size_t largest_total() const {
    return spec.type->max_entries_per_layer(spec.settings, shape, cache_size) * (std::size_t)shape.n_layer;
  }
};

// Of one policy: its defaults, every word, and a few settings that take other ways.
inline std::vector<PolicySpec> specs_of(const std::string& name) {
  std::vector<PolicySpec> result = every_choice();
  for (const char* text : {"streaming-llm:sinks=0", "lacache:span=3,sinks=1", "lacache:span=2,overlap=1",
                           "cake:order=position,evict_fraction=0.3,window=4", "snapkv:evict_fraction=0.3,window=4",
                           "h2o:evict_fraction=1,heads=adaptive", "tova:evict_fraction=0.3",
                           "pyramidkv:beta=3,window=3,heads=adaptive,evict_fraction=0.3",
                           "cake:window=4,tau1=0.4,tau2=0.6", "cake:window=8,gamma=0,decay=0"}) {
    result.push_back(PolicySpec::parse(text));
  }
  if (const auto type = find_policy_type(name); type->bounded) result.push_back(PolicySpec::parse(name + ":pinned=7"));
  std::erase_if(result, [&](const PolicySpec& spec) { return spec.type->name != name; });
  return result;
}

inline std::vector<Trial> trials(const std::string& policy, std::size_t n_tokens) {
  const std::vector<AttentionShape> shapes = {{.n_layer = 4, .n_head = 4, .n_head_kv = 2, .calibration = 1},
                                              {.n_layer = 5, .n_head = 3, .n_head_kv = 1, .calibration = 1},
                                              {.n_layer = 9, .n_head = 2, .n_head_kv = 2, .calibration = 1}};
  std::vector<Trial> result;
  unsigned seed = 0;
  for (const PolicySpec& spec : specs_of(policy)) {
    for (const AttentionShape& shape : shapes) {
      if (!spec.type->bounded) {
        result.push_back({spec, shape, n_tokens, ++seed});
        continue;
      }
      const std::size_t least = spec.type->min_cache_size(spec.settings, shape);
      for (std::size_t more : {0, 11, 40}) result.push_back({spec, shape, least + more, ++seed});
    }
  }
  return result;
}

// Sizes up and down, from the least on; of a policy that evicts nothing none below the conversation.
inline std::size_t size_number(std::size_t i, const Trial& trial) {
  constexpr std::size_t kMore[] = {3, 60, 12, 0, 25, 90, 1, 40};
  const bool bounded = trial.spec.type->bounded;
  const std::size_t least = trial.spec.type->min_cache_size(trial.spec.settings, trial.shape);
  return (bounded ? least : trial.cache_size) + kMore[i % std::size(kMore)];
}

// A prompt that cannot be compacted is refused by name before anything runs.
inline bool accepts(const Policy& policy, const Segment& segment, const SimulatedCache& cache) {
  try {
    policy.measures(segment.phase, 0, cache.length(0) + segment.n_new, segment.n_new);
    return true;
  } catch (const Error&) {
    return false;
  }
}

using AfterSegment = std::function<void(Policy&, const SimulatedCache&)>;

// Runs a conversation; `before` and `after` see every segment. A prompt that the policy refuses is not fed.
inline void run(const Trial& trial, const Conversation& conversation, Policy& policy, SimulatedCache& cache,
                const AfterSegment& before, const AfterSegment& after,
                const std::function<void(int)>& after_layer = {}) {
  const AttentionSource attention = synthetic_attention(trial.shape, trial.seed);
  for (const Segment& segment : conversation.segments) {
    for (std::size_t i = 0; i < segment.times; ++i) {
      before(policy, cache);
      if (!accepts(policy, segment, cache)) continue;
      cache.expect_more(segment.more_follows);
      cache.feed(policy, segment.phase, segment.n_new, attention, after_layer);
      after(policy, cache);
    }
  }
}

inline void nothing(Policy&, const SimulatedCache&) {}

// Of the policy that the parameter names.
class EveryPolicy : public testing::TestWithParam<std::string> {
 protected:
  // Calls `check` with a fresh policy and cache for every trial and conversation.
  void for_all(const std::function<void(const Trial&, const Conversation&, Policy&, SimulatedCache&)>& check) {
    for (const Conversation& conversation : conversations()) {
      for (const Trial& trial : trials(GetParam(), conversation.n_tokens())) {
        SCOPED_TRACE(trial.text() + ", " + conversation.name);
        const std::unique_ptr<Policy> policy = trial.make();
        SimulatedCache cache(trial.shape, policy->traits());
        check(trial, conversation, *policy, cache);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
};

inline std::vector<std::string> policy_names() {
  std::vector<std::string> names;
  for (const PolicyType& type : policy_types()) names.push_back(type.name);
  return names;
}

inline std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

inline void expect_same(const SimulatedCache& a, const SimulatedCache& b, const AttentionShape& shape) {
  for (int layer = 0; layer < shape.n_layer; ++layer) {
    for (int head = 0; head < shape.n_head_kv; ++head) {
      ASSERT_EQ(a.held(layer, head), b.held(layer, head)) << "layer " << layer << " head " << head;
    }
  }
}

}  // namespace lacake::simulation
