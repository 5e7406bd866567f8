#include "engine/synthetic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <tuple>

#include "engine/bench.h"
#include "engine/session_state.h"
#include "engine/test_session.h"

namespace lacake {
namespace {

// A real prompt of which nothing is dropped, in the form that samples are taken from.
struct Sampled : Loaded {
  explicit Sampled(const TinyModel& t, int threads = 1) : Loaded(t, threads), text(random_tokens(tiny, 64, 5)) {
    session = engine.open(with("full:positions=compacted", "", "f32", PrefillMode::kExact, text.size()));
    session->prefill(text);
    sample.emplace(*session);
  }
  const Cache& real() const { return session->state().cache(); }
  Tokens text;
  std::unique_ptr<Session> session;
  std::optional<EntrySample> sample;
};

std::vector<PolicySpec> all_policies() {
  std::vector<PolicySpec> specs;
  for (const PolicyType& type : policy_types()) specs.push_back(PolicySpec::parse(type.name));
  specs.push_back(PolicySpec::parse("full:positions=compacted"));
  return specs;
}

const float* f32_row(const void* base, std::size_t stride, std::size_t i) {
  return (const float*)((const std::byte*)base + i * stride);
}

TEST(EntrySample, BeginsWithTheRealEntriesThemselves) {
  const Sampled s(small());
  std::vector<float> k(8), v(8);
  for (int l = 0; l < s.tiny.n_layer; ++l) {
    const attention::Rows rows = s.real().rows(l, 1);
    for (const std::size_t i : {0, 1, 63}) {
      s.sample->entry(l, 1, i, k.data(), v.data());
      for (std::size_t c = 0; c < 8; ++c) {
        EXPECT_NEAR(k[c], f32_row(rows.k, rows.k_stride, i)[c], 1e-5f);
        EXPECT_NEAR(v[c], f32_row(rows.v, rows.v_stride, i)[c], 1e-5f);
      }
    }
  }
}

// Over many drawn entries: every dimension's mean and deviation, and the correlation of two dimensions of K.
TEST(EntrySample, KeepsMeanAndCovarianceOfTheRealRows) {
  const Sampled s(small());
  constexpr std::size_t kDraws = 20000, kRows = 60;
  const attention::Rows rows = s.real().rows(2, 0);
  std::vector<float> k(8), v(8);
  double real[4] = {}, drawn[4] = {};  // sums of x, x^2, xy, y
  const auto add = [](double* sums, const float* row, double weight) {
    sums[0] += weight * row[2], sums[1] += weight * row[2] * row[2], sums[2] += weight * row[2] * row[5];
    sums[3] += weight * row[5];
  };
  for (std::size_t i = EntrySample::kFirst; i < 64; ++i) add(real, f32_row(rows.k, rows.k_stride, i), 1.0 / kRows);
  for (std::size_t i = 0; i < kDraws; ++i) {
    s.sample->entry(2, 0, 1000 + i, k.data(), v.data());
    add(drawn, k.data(), 1.0 / kDraws);
  }
  const double variance = real[1] - real[0] * real[0];
  EXPECT_NEAR(drawn[0], real[0], 0.05 * std::sqrt(variance));
  EXPECT_NEAR(drawn[1] - drawn[0] * drawn[0], variance, 0.05 * variance);
  EXPECT_NEAR(drawn[2] - drawn[0] * drawn[3], real[2] - real[0] * real[3], 0.05 * variance);
}

TEST(EntrySample, NoTwoDrawnEntriesAreAlike) {
  const Sampled s(small());
  std::vector<float> k(8), other(8), v(8);
  s.sample->entry(1, 0, 500, k.data(), v.data());
  for (const auto& [layer, head, position] : {std::tuple{1, 0, 501}, {1, 1, 500}, {2, 0, 500}}) {
    s.sample->entry(layer, head, (std::size_t)position, other.data(), v.data());
    EXPECT_NE(k, other);
  }
  s.sample->entry(1, 0, 500, other.data(), v.data());
  EXPECT_EQ(k, other);
}

// A fill no longer than the sample is the sample: then a step after it is the step after the real prompt.
TEST(SyntheticFill, OfTheSamplesLengthEqualsTheRealPrompt) {
  for (const char* policy : {"full", "full:positions=compacted"}) {
    Sampled s(small());
    const auto options = with(policy, "", "f32", PrefillMode::kExact, s.text.size());
    const auto real = s.engine.open(options), made = s.engine.open(options);
    real->prefill(s.text);
    ASSERT_TRUE(fill_synthetic(s.engine, *made, *s.sample, s.text.size()));
    EXPECT_EQ(made->tokens(), real->tokens());
    real->step(s.text[3]);
    made->step(s.text[3]);
    EXPECT_LT(distance(logits_of(*real), logits_of(*made)), 1e-3f) << policy;
  }
}

TEST(SyntheticFill, LeavesEveryPolicyWithinItsBudgetAndReadyToDecode) {
  for (const PolicySpec& spec : all_policies()) {
    for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
      Sampled s(small());
      SessionOptions options = with(spec.text(), spec.type->bounded ? "80" : "", "f16", mode, 700, 100);
      const auto session = s.engine.open(options);
      ASSERT_TRUE(fill_synthetic(s.engine, *session, *s.sample, 700)) << spec.text();
      EXPECT_EQ(session->tokens().size(), 700u);
      EXPECT_LE(session->use().peak_bytes, session->plan().budget_bytes) << spec.text();
      EXPECT_GE(session->use().entries_per_layer[0], 40u) << spec.text();
      for (int i = 0; i < 30; ++i) session->step(s.text[(std::size_t)i]);
      EXPECT_TRUE(std::isfinite(logits_of(*session)[0])) << spec.text();
      EXPECT_LE(session->use().peak_bytes, session->plan().budget_bytes) << spec.text();
      ASSERT_TRUE(session->prefill(s.text)) << spec.text();
      EXPECT_EQ(session->kept(0, 0).back(), 700 + 30 + 64 - 1) << spec.text();
    }
  }
}

TEST(SyntheticFill, IsTheSameWhateverTheThreads) {
  Logits one;
  for (const int threads : {1, 2}) {
    Sampled s(small(), threads);
    const auto session = s.engine.open(with("cake:window=8", "48", "f32", PrefillMode::kExact, 300));
    ASSERT_TRUE(fill_synthetic(s.engine, *session, *s.sample, 300));
    session->step(7);
    if (threads == 1) one = logits_of(*session);
    EXPECT_TRUE(same_bits(one, logits_of(*session)));
  }
}

TEST(SyntheticFill, StopsWhenTheHookSaysSo) {
  Sampled s(small());
  const auto session = s.engine.open(with("full", "", "f32", PrefillMode::kExact, 400));
  std::size_t calls = 0;
  PrefillOptions hooks;
  hooks.progress = [&](std::size_t done, std::size_t total) {
    EXPECT_LE(done, total);
    return ++calls < 2;
  };
  EXPECT_FALSE(fill_synthetic(s.engine, *session, *s.sample, 400, hooks));
  EXPECT_EQ(calls, 2u);
}

TEST(SyntheticFill, RefusesWhatDoesNotFit) {
  Sampled s(small());
  const auto session = s.engine.open(with("full", "", "f32", PrefillMode::kExact, 100, 10));
  const auto fill = [&] { fill_synthetic(s.engine, *session, *s.sample, 200); };
  EXPECT_TRUE(contains(refusal(Error::Kind::kCapacity, fill), "200 more do not fit"));
}

// A policy that asks for everything, keeps everything, and looks at what it is shown.
struct Watcher final : Policy {
  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase, int, std::size_t, std::size_t) const override {
    return {.window = 8, .accumulated = true, .key_similarity = true, .last_row = true};
  }
  void update(const Observation& seen, CacheEdits&) override { look(seen); }
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override { return n_held + n_new; }
  std::size_t reserve(int, int) const override { return 1000; }
  void resize(std::size_t, CacheEdits&) override {}
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Watcher>(*this); }
  void visit(PolicyFields&) override {}
  static inline std::function<void(const Observation&)> look;
  PolicyTraits traits_;
};

TEST(SyntheticFill, ShowsPoliciesAttentionThatIsPeakedAndAddsUp) {
  const PolicyType type = {
      .name = "watcher",
      .bounded = false,
      .max_entries_per_layer = [](const PolicySettings&, const AttentionShape&,
                                  std::size_t) { return std::size_t{1000}; },
      .min_cache_size = [](const PolicySettings&, const AttentionShape&) { return std::size_t{1}; },
      .make = [](const PolicySettings&, const AttentionShape&, std::size_t) -> std::unique_ptr<Policy> {
        return std::make_unique<Watcher>();
      }};
  Sampled s(small());
  SessionOptions options = with("full", "", "f32", PrefillMode::kStreaming, 600);
  options.policy.type = std::make_shared<const PolicyType>(type);
  options.chunk = 300;
  const auto session = s.engine.open(options);
  int n_seen = 0;
  Watcher::look = [&](const Observation& seen) {
    ++n_seen;
    ASSERT_EQ(seen.window, 8);
    ASSERT_EQ(seen.n_new, 300u);
    for (std::size_t h = 0; h < 4; ++h) {
      const auto mean = seen.window_mean.subspan(h * seen.n_entries, seen.n_entries);
      const auto sums = seen.accumulated.subspan(h * seen.n_entries, seen.n_entries);
      EXPECT_NEAR(std::accumulate(mean.begin(), mean.end(), 0.0), 1, 1e-4);
      EXPECT_NEAR(mean[0], 1.0 / 3, 0.01);  // a sink
      const auto last = seen.last_row.subspan(h * seen.n_entries, seen.n_entries);
      EXPECT_NEAR(std::accumulate(last.begin(), last.end(), 0.0), 1, 1e-4);
      EXPECT_GT(last.back(), 4 * mean.back());  // of the window's rows only the last sees the last entry
      // The rest is far from flat: the largest tenth has most of it, and only what no row sees is 0.
      std::vector<float> sorted(mean.begin() + 1, mean.end());
      std::sort(sorted.rbegin(), sorted.rend());
      EXPECT_GT(std::accumulate(sorted.begin(), sorted.begin() + (std::ptrdiff_t)sorted.size() / 10, 0.0), 0.25);
      EXPECT_GT(sorted.back(), 0);
      EXPECT_GT(seen.window_entropy[h], 0);
      EXPECT_GT(sums[0], sums[seen.n_entries - 1]);
    }
    EXPECT_EQ(seen.key_similarity.size(), 2 * seen.n_entries);
  };
  ASSERT_TRUE(fill_synthetic(s.engine, *session, *s.sample, 600));
  EXPECT_EQ(n_seen, 2 * s.tiny.n_layer);
}

// --- engine/bench.h --------------------------------------------------------------------------------------------------

TEST(BenchEngine, LengthIsRefusedUntilAnyIsAllowed) {
  TinyModel tiny = small();
  tiny.n_ctx_train = 128;
  Sampled s(tiny);
  const auto options = with("full", "", "f32", PrefillMode::kExact, 500, 10);
  EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { s.engine.plan(options); }), "training length 128"));
  allow_any_length(s.engine);
  const auto session = s.engine.open(options);
  ASSERT_TRUE(fill_synthetic(s.engine, *session, *s.sample, 500));
  session->step(7);
  EXPECT_EQ(session->use().entries_per_layer[0], 501u);
}

TEST(BenchEngine, AStepReadsEveryWeightOnceAndOneRowOfAnUntiedEmbedding) {
  TinyModel tied = small(), untied = small();
  untied.tied = false;
  Loaded a(tied), b(untied);
  const std::uint64_t embedding = 4u * (std::uint64_t)tied.n_embd * (std::uint64_t)tied.n_vocab;
  EXPECT_EQ(weight_bytes_per_step(a.engine), 4 * a.model.facts().n_parameters);
  EXPECT_EQ(weight_bytes_per_step(b.engine),
            4 * b.model.facts().n_parameters - embedding + 4u * (std::uint64_t)tied.n_embd);
}

}  // namespace
}  // namespace lacake
