// Tokens that are read behind a prompt, whose keys and values nobody keeps.

#include <gtest/gtest.h>

#include "engine/test_session.h"
#include "lacake/policy_author.h"

namespace lacake {
namespace {

// What the last prompt showed to a policy, by layer.
struct Shown {
  std::size_t n_entries = 0, n_new = 0, n_probe = 0;
  int window = 0;
  bool more_follows = false;
  std::vector<float> mean, accumulated;
};

// Keeps everything and writes down what it sees.
class Onlooker final : public Policy {
 public:
  Onlooker(int window, std::vector<Shown>& shown) : window_(window), shown_(shown) {}
  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase phase, int, std::size_t, std::size_t) const override {
    return phase == Phase::kPrefill ? Measures{.window = window_, .accumulated = true} : Measures{};
  }
  void update(const Observation& seen, CacheEdits&) override {
    if (seen.phase != Phase::kPrefill) return;
    if (shown_.size() <= (std::size_t)seen.layer) shown_.resize((std::size_t)seen.layer + 1);
    shown_[(std::size_t)seen.layer] = {seen.n_entries,
                                       seen.n_new,
                                       seen.n_probe,
                                       seen.window,
                                       seen.more_follows,
                                       {seen.window_mean.begin(), seen.window_mean.end()},
                                       {seen.accumulated.begin(), seen.accumulated.end()}};
  }
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override { return n_held + n_new; }
  std::size_t reserve(int, int) const override { return 2000; }
  void resize(std::size_t, CacheEdits&) override {}
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Onlooker>(*this); }
  void visit(PolicyFields&) override {}

 private:
  PolicyTraits traits_;
  int window_;
  std::vector<Shown>& shown_;
};

SessionOptions looking(int window, std::vector<Shown>& shown) {
  PolicyType type{.name = "onlooker",
                  .summary = "keeps everything and looks",
                  .bounded = false,
                  .max_entries_per_layer = [](const auto&, const auto&, std::size_t) { return std::size_t{2000}; },
                  .min_cache_size = [](const auto&, const auto&) { return std::size_t{1}; },
                  .make = [window, &shown](const auto&, const auto&, std::size_t) -> std::unique_ptr<Policy> {
                    return std::make_unique<Onlooker>(window, shown);
                  }};
  SessionOptions o = with("full", "", "f32", PrefillMode::kExact, 900, 100);
  o.policy.type = std::make_shared<PolicyType>(std::move(type));
  return o;
}

TinyModel longer() {
  TinyModel tiny = small();
  tiny.n_ctx_train = 2048;
  return tiny;
}

// A probe of 40 tokens over a text of 600: its attention is what the same tokens have as the end of a longer prompt.
TEST(Probe, ShowsWhatItsTokensAttendTo) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 640, 1);
  std::vector<Shown> whole, probed;
  const auto a = loaded.engine.open(looking(16, whole)), b = loaded.engine.open(looking(16, probed));
  a->prefill(tokens);
  b->prefill(std::span(tokens).first(600), {.probe = {tokens.begin() + 600, tokens.end()}});
  ASSERT_EQ(whole.size(), probed.size());
  for (std::size_t l = 0; l < whole.size(); ++l) {
    EXPECT_EQ(probed[l].n_entries, 600u);
    EXPECT_EQ(probed[l].n_new, 600u);
    EXPECT_EQ(probed[l].n_probe, 40u);
    EXPECT_EQ(probed[l].window, 16);
    for (std::size_t h = 0; h < 4; ++h) {
      const float* expected = whole[l].mean.data() + h * 640;
      EXPECT_LT(distance({expected, 600}, {probed[l].mean.data() + h * 600, 600}), 1e-6f) << "layer " << l;
    }
  }
}

TEST(Probe, IsTheOnlyOneObserved) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 40, 2);
  std::vector<Shown> shown;
  const auto s = loaded.engine.open(looking(64, shown));
  s->prefill(std::span(tokens).first(37), {.probe = {tokens.begin() + 37, tokens.end()}});
  for (const Shown& layer : shown) {
    EXPECT_EQ(layer.window, 3);
    // Three queries, of which a part of each goes to the probe's own keys.
    float sum = 0;
    for (std::size_t i = 0; i < 37; ++i) sum += layer.accumulated[i];
    EXPECT_LT(sum, 3.0f);
    EXPECT_GT(sum, 2.0f);
    float mean = 0;
    for (std::size_t i = 0; i < 37; ++i) mean += layer.mean[i];
    EXPECT_NEAR(mean * 3, sum, 1e-5f);
  }
}

TEST(Probe, LeavesTheSessionAsIfItHadNotBeen) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 700, 3), probe = random_tokens(loaded.tiny, 90, 4);
  for (const char* policy : {"full", "full:positions=compacted", "streaming-llm"}) {
    SCOPED_TRACE(policy);
    const auto o = with(policy, std::string(policy).starts_with("full") ? "" : "60", "f16", PrefillMode::kExact, 700);
    const auto plain = loaded.engine.open(o), probed = loaded.engine.open(o);
    for (const auto& part : {std::span(tokens).first(600), std::span(tokens).subspan(600)}) {
      plain->prefill(part);
      probed->prefill(part, {.probe = probe});
      EXPECT_TRUE(same_bits(plain->logits(), probed->logits()));
    }
    EXPECT_EQ(plain->tokens(), probed->tokens());
    EXPECT_EQ(plain->use().held_bytes, probed->use().held_bytes);
    plain->step(5);
    probed->step(5);
    EXPECT_TRUE(same_bits(plain->logits(), probed->logits()));
  }
}

TEST(Probe, AStreamedPromptRefusesIt) {
  Loaded loaded(longer());
  const auto s = loaded.engine.open(with("streaming-llm", "40", "f16", PrefillMode::kStreaming, 90));
  const Tokens tokens = random_tokens(loaded.tiny, 20, 5);
  EXPECT_TRUE(contains(refusal(Error::Kind::kUsage, [&] { s->prefill(tokens, {.probe = tokens}); }), "probe"));
  EXPECT_EQ(s->status(), SessionStatus::kReady);
}

TEST(MoreFollows, IsShownToThePolicyAndTrueOfAllChunksButTheLast) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 60, 6);
  for (const bool more : {false, true}) {
    std::vector<Shown> shown;
    const auto s = loaded.engine.open(looking(4, shown));
    s->prefill(tokens, {.more_follows = more});
    for (const Shown& layer : shown) EXPECT_EQ(layer.more_follows, more);
  }
}

}  // namespace
}  // namespace lacake
