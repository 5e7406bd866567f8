// A policy's state on its way into a snapshot and out of it: what every policy promises of it.

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "property/every_policy.h"

namespace lacake::simulation {
namespace {

// Everything that a policy named, in order; given back in that order, and only in that.
class Tape final : public PolicyFields {
 public:
  explicit Tape(const SimulatedCache& cache) : cache_(cache) {}

  void rewind() { playing_ = true; }
  bool at_end() const { return next_ == values_.size(); }

  std::size_t n_entries(int layer, int head) const override { return cache_.held(layer, head).size(); }
  using PolicyFields::number;
  void number(std::string_view name, std::int64_t& value, std::int64_t least, std::int64_t most) override {
    exchange(name, value);
    EXPECT_TRUE(value >= least && value <= most) << name << " " << value;
  }
  void real(std::string_view name, double& value) override { exchange(name, value); }
  void reals(std::string_view name, std::vector<float>& values, std::size_t n, float least, float most) override {
    list(name, values, n, least, most);
  }
  void numbers(std::string_view name, std::vector<std::int64_t>& values, std::size_t n, std::int64_t least,
               std::int64_t most) override {
    list(name, values, n, least, most);
  }

 private:
  template <class Number>
  void list(std::string_view name, std::vector<Number>& values, std::size_t n, Number least, Number most) {
    if (playing_) values.assign(n, Number{});
    ASSERT_EQ(values.size(), n) << name;
    for (Number& value : values) {
      exchange(name, value);
      ASSERT_TRUE(value >= least && value <= most) << name << " " << value;
    }
  }
  // Doubles hold every number that occurs here.
  template <class Number>
  void exchange(std::string_view name, Number& value) {
    if (!playing_) {
      values_.emplace_back(name, (double)value);
      return;
    }
    ASSERT_LT(next_, values_.size()) << name;
    EXPECT_EQ(values_[next_].first, name);
    value = static_cast<Number>(values_[next_++].second);
  }

  const SimulatedCache& cache_;
  std::vector<std::pair<std::string, double>> values_;
  std::size_t next_ = 0;
  bool playing_ = false;
};

// Another policy of the same settings takes over, which knows nothing but what was saved.
void continue_saved(const Trial& trial, std::size_t cache_size, const SimulatedCache& cache,
                    std::unique_ptr<Policy>& policy) {
  Tape tape(cache);
  policy->visit(tape);
  tape.rewind();
  policy = trial.spec.type->make(trial.spec.settings, trial.shape, cache_size);
  policy->visit(tape);
  ASSERT_TRUE(tape.at_end());
}

class EveryPolicySaved : public EveryPolicy {};

INSTANTIATE_TEST_SUITE_P(Policies, EveryPolicySaved, testing::ValuesIn(policy_names()), test_name);

// Before every segment and after every change of size, up and down.
TEST_P(EveryPolicySaved, ALoadedOneDecidesAsTheOneThatWasSaved) {
  for_all([](const Trial& trial, const Conversation& conversation, Policy& never_stopped, SimulatedCache& expected) {
    const AttentionSource attention = synthetic_attention(trial.shape, trial.seed);
    std::unique_ptr<Policy> current = trial.make();
    SimulatedCache cache(trial.shape, current->traits());
    std::size_t n_segments = 0, cache_size = trial.cache_size;
    for (const Segment& segment : conversation.segments) {
      for (std::size_t i = 0; i < segment.times; ++i) {
        continue_saved(trial, cache_size, cache, current);
        if (n_segments++ % 3 == 2) {
          cache_size = size_number(n_segments, trial);
          expected.resize(never_stopped, cache_size);
          cache.resize(*current, cache_size);
          continue_saved(trial, cache_size, cache, current);
        }
        if (!accepts(never_stopped, segment, expected)) break;
        expected.feed(never_stopped, segment.phase, segment.n_new, attention);
        cache.feed(*current, segment.phase, segment.n_new, attention);
        for (int layer = 0; layer < trial.shape.n_layer; ++layer) {
          for (int head = 0; head < trial.shape.n_head_kv; ++head) {
            ASSERT_EQ(cache.held(layer, head), expected.held(layer, head));
            ASSERT_EQ(current->reserve(layer, head), never_stopped.reserve(layer, head));
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace lacake::simulation
