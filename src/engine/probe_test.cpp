// Tokens that are read behind a prompt, whose keys and values nobody keeps.

#include <gtest/gtest.h>

#include "engine/engine_state.h"
#include "engine/prefill_job.h"
#include "engine/test_session.h"
#include "lacake/policy_author.h"

namespace lacake {
namespace {

// What the last prompt showed to a policy, by layer.
struct Shown {
  std::size_t n_entries = 0, n_new = 0, n_probe = 0;
  int window = 0;
  bool more_follows = false;
  std::vector<float> mean, accumulated, repeated, norms;
};

// Keeps everything and writes down what it sees.
class Onlooker final : public Policy {
 public:
  Onlooker(const Measures& asked, std::vector<Shown>& shown) : asked_(asked), shown_(shown) {}
  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase phase, int, std::size_t, std::size_t) const override {
    return phase == Phase::kPrefill ? asked_ : Measures{};
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
                                       {seen.accumulated.begin(), seen.accumulated.end()},
                                       {seen.repeat_peak.begin(), seen.repeat_peak.end()},
                                       {seen.value_norm.begin(), seen.value_norm.end()}};
  }
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override { return n_held + n_new; }
  std::size_t reserve(int, int) const override { return 2000; }
  void resize(std::size_t, CacheEdits&) override {}
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Onlooker>(*this); }
  void visit(PolicyFields&) override {}

 private:
  PolicyTraits traits_;
  Measures asked_;
  std::vector<Shown>& shown_;
};

SessionOptions asking(const Measures& asked, std::vector<Shown>& shown) {
  PolicyType type{.name = "onlooker",
                  .summary = "keeps everything and looks",
                  .bounded = false,
                  .max_entries_per_layer = [](const auto&, const auto&, std::size_t) { return std::size_t{2000}; },
                  .min_cache_size = [](const auto&, const auto&) { return std::size_t{1}; },
                  .make = [asked, &shown](const auto&, const auto&, std::size_t) -> std::unique_ptr<Policy> {
                    return std::make_unique<Onlooker>(asked, shown);
                  }};
  SessionOptions o = with("full", "", "f32", PrefillMode::kExact, 900, 100);
  o.policy.type = std::make_shared<PolicyType>(std::move(type));
  return o;
}

SessionOptions looking(int window, std::vector<Shown>& shown) {
  return asking({.window = window, .accumulated = true}, shown);
}

SessionOptions repeating(RepeatScore score, std::size_t n_sinks, std::vector<Shown>& shown) {
  return asking({.window = 4, .accumulated = true, .repeat = score, .repeat_sinks = n_sinks}, shown);
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
  b->prefill(std::span(tokens).first(600), {.probes = {{.tokens = {tokens.begin() + 600, tokens.end()}}}});
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
  s->prefill(std::span(tokens).first(37), {.probes = {{.tokens = {tokens.begin() + 37, tokens.end()}}}});
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
      probed->prefill(part, {.probes = {{.tokens = probe}}});
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
  EXPECT_TRUE(
      contains(refusal(Error::Kind::kUsage, [&] { s->prefill(tokens, {.probes = {{.tokens = tokens}}}); }), "probe"));
  EXPECT_EQ(s->status(), SessionStatus::kReady);
}

TEST(Probes, AreEachAsIfItAloneCameBehindTheText) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 600, 1), one = random_tokens(loaded.tiny, 530, 7),
               two = random_tokens(loaded.tiny, 20, 8);
  std::vector<Shown> first, second, both;
  loaded.engine.open(looking(16, first))->prefill(tokens, {.probes = {{.tokens = one}}});
  loaded.engine.open(looking(16, second))->prefill(tokens, {.probes = {{.tokens = two}}});
  loaded.engine.open(looking(16, both))->prefill(tokens, {.probes = {{.tokens = one}, {.tokens = two}}});
  ASSERT_EQ(both.size(), first.size());
  for (std::size_t l = 0; l < both.size(); ++l) {
    EXPECT_EQ(both[l].n_probe, 550u);
    EXPECT_TRUE(same_bits(both[l].mean, second[l].mean));
    for (std::size_t i = 0; i < both[l].accumulated.size(); ++i) {
      EXPECT_NEAR(both[l].accumulated[i], first[l].accumulated[i] + second[l].accumulated[i], 1e-4);
    }
  }
}

TEST(Probes, ThatAreNoneOrRepeatWhatIsNotThereAreRefused) {
  Loaded loaded(longer());
  const auto s = loaded.engine.open(with("full", "", "f32", PrefillMode::kExact, 90));
  const Tokens tokens = random_tokens(loaded.tiny, 20, 5);
  for (const Probe& probe : {Probe{}, Probe{tokens, 0, 21}, Probe{tokens, 5, 4}}) {
    EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { s->prefill(tokens, {.probes = {probe}}); }), "probe"));
  }
  EXPECT_EQ(s->status(), SessionStatus::kReady);
}

TEST(Probes, ThatReachBeyondTrainingAreRefusedByName) {
  Loaded loaded(small());
  const auto n = (std::size_t)loaded.model.facts().training_length;
  const auto s = loaded.engine.open(with("full", "", "f32", PrefillMode::kExact, n, 0));
  const Tokens tokens = random_tokens(loaded.tiny, n - 10, 5);
  const Probe fits{Tokens(10, 5), 0, 5}, reaches{Tokens(11, 5), 0, 5};
  EXPECT_TRUE(contains(refusal(Error::Kind::kInput,
                               [&] {
                                 s->prefill(tokens, {.probes = {fits, reaches}});
                               }),
                       "probe: expected at most the model's training length"));
  EXPECT_TRUE(s->prefill(tokens, {.probes = {fits}}));
}

TEST(Repeat, IsOfShorterChunksWhereTextAndChunkWouldReachBeyondTraining) {
  Loaded loaded(longer());
  const auto trained = (std::size_t)loaded.model.facts().training_length;
  SessionOptions options = with("kvzip:chunk=400", "20", "f32", PrefillMode::kExact, 900, 100);
  options.repeat_frame = 30;
  const auto s = loaded.engine.open(options);
  EXPECT_EQ(s->repeat_chunk(trained - 30 - 400), 400u);
  EXPECT_EQ(s->repeat_chunk(trained - 30 - 300), 300u);
  EXPECT_EQ(s->repeat_chunk(trained - 30 - 64), 64u);
  EXPECT_EQ(s->repeat_chunk(trained - 30 - 63), 400u);  // too little room: refused when it is fed
  EXPECT_EQ(loaded.engine.open(with("full", "", "f32", PrefillMode::kExact, 90))->repeat_chunk(trained - 300), 0u);
}

// Of a text of 600 tokens two parts, repeated by 540 and 30.
std::vector<Probe> two_repeats(const Loaded& loaded) {
  return {{random_tokens(loaded.tiny, 540, 11), 10, 333}, {random_tokens(loaded.tiny, 30, 12), 333, 590}};
}

TEST(Repeat, ShowsTheLargestProbabilityOfEachEntryThatIsRepeated) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 600, 1);
  std::vector<Shown> shown, plain;
  loaded.engine.open(repeating(RepeatScore::kPeak, 4, shown))->prefill(tokens, {.probes = two_repeats(loaded)});
  loaded.engine.open(repeating(RepeatScore::kPeak, 4, plain))->prefill(tokens);
  for (std::size_t l = 0; l < shown.size(); ++l) {
    EXPECT_TRUE(plain[l].repeated.empty());
    // What the text's own queries saw is what it is without a repeat.
    EXPECT_EQ(shown[l].n_probe, 0u);
    EXPECT_TRUE(same_bits(shown[l].mean, plain[l].mean));
    EXPECT_TRUE(same_bits(shown[l].accumulated, plain[l].accumulated));
    ASSERT_EQ(shown[l].repeated.size(), 2 * 600u);
    for (std::size_t i = 0; i < 1200; ++i) {
      const bool repeated = i % 600 >= 10 && i % 600 < 590;
      EXPECT_EQ(shown[l].repeated[i] == -1, !repeated) << i;
      EXPECT_TRUE(!repeated || (shown[l].repeated[i] > 0 && shown[l].repeated[i] <= 1.0001f)) << i;
    }
  }
}

// A probe of one token is a query over everything: its probabilities, summed, are what the peak is made of.
TEST(Repeat, TakesItsShareOverSinksPartAndItself) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 100, 1);
  const Probe repeat{{17}, 20, 70}, look{{17}};
  std::vector<Shown> shown, whole;
  loaded.engine.open(repeating(RepeatScore::kPeak, 3, shown))->prefill(tokens, {.probes = {repeat}});
  loaded.engine.open(looking(1, whole))->prefill(tokens, {.probes = {look}});
  for (std::size_t l = 0; l < shown.size(); ++l) {
    for (std::size_t kv = 0; kv < 2; ++kv) {
      for (std::size_t i = 20; i < 70; ++i) {
        double most = 0;
        for (std::size_t h = 2 * kv; h < 2 * kv + 2; ++h) {
          const float* row = whole[l].mean.data() + h * 100;
          double all = 1;  // and what is its own, which no entry has
          for (std::size_t j = 0; j < 100; ++j) all -= row[j];
          for (std::size_t j = 0; j < 3; ++j) all += row[j];
          for (std::size_t j = 20; j < 70; ++j) all += row[j];
          most = std::max(most, row[i] / all);
        }
        EXPECT_NEAR(shown[l].repeated[kv * 100 + i], most, 1e-5 * most) << l << " " << kv << " " << i;
      }
    }
  }
}

// A head's probability times what the value adds through that head, over the length of the query's input: the same for
// all entries where there is one query.
TEST(Repeat, OfTheOutputCountsWhatTheValueAdds) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 100, 1);
  std::vector<Shown> shown, plain, heads;
  Measures of_output{.value_norm = ValueNorm::kOutput, .repeat = RepeatScore::kPeakOfOutput, .repeat_sinks = 3};
  loaded.engine.open(asking(of_output, shown))->prefill(tokens, {.probes = {{{17}, 20, 70}}});
  loaded.engine.open(repeating(RepeatScore::kPeak, 3, plain))->prefill(tokens, {.probes = {{{17}, 20, 70}}});
  loaded.engine.open(looking(1, heads))->prefill(tokens, {.probes = {{{17}}}});
  for (std::size_t l = 0; l < shown.size(); ++l) {
    ASSERT_EQ(shown[l].norms.size(), 4 * 100u);
    double length = 0;
    for (std::size_t kv = 0; kv < 2; ++kv) {
      EXPECT_EQ(shown[l].repeated[kv * 100], -1);
      for (std::size_t i = 20; i < 70; ++i) {
        double most = 0;
        for (std::size_t h = 2 * kv; h < 2 * kv + 2; ++h) {
          const float* row = heads[l].mean.data() + h * 100;
          double all = 1;
          for (std::size_t j = 0; j < 100; ++j) all -= j < 3 || (j >= 20 && j < 70) ? 0 : row[j];
          most = std::max(most, row[i] / all * shown[l].norms[h * 100 + i]);
        }
        const double found = most / shown[l].repeated[kv * 100 + i];
        if (length == 0) length = found;
        EXPECT_NEAR(found, length, 1e-4 * length) << l << " " << kv << " " << i;
      }
    }
    EXPECT_GT(length, 0);
    EXPECT_FALSE(same_bits(shown[l].repeated, plain[l].repeated));
  }
}

TEST(Repeat, IsTheSameBitsOnAnyThreadsWhateverRunsBeside) {
  Loaded one(longer()), many(longer(), 3);
  const Tokens tokens = random_tokens(one.tiny, 600, 1);
  std::vector<Shown> alone, threads, beside, other;
  one.engine.open(repeating(RepeatScore::kPeak, 4, alone))->prefill(tokens, {.probes = two_repeats(one)});
  many.engine.open(repeating(RepeatScore::kPeak, 4, threads))->prefill(tokens, {.probes = two_repeats(one)});
  const auto a = one.engine.open(repeating(RepeatScore::kPeak, 4, beside)),
             b = one.engine.open(repeating(RepeatScore::kPeak, 0, other));
  Session* const both[] = {b.get(), a.get()};
  const auto job = one.engine.start_prefill(both, tokens, {.probes = two_repeats(one)});
  const auto c = one.engine.open(with("full", "", "f32", PrefillMode::kExact, 90));
  c->prefill(std::span(tokens).first(50));
  for (Token t = 1; job->advance(); ++t) c->step(t % 60);  // jobs and steps share the engine's memory
  EXPECT_EQ(job->n_tokens(), 600u + 570u);
  EXPECT_TRUE(job->finished());
  for (std::size_t l = 0; l < alone.size(); ++l) {
    EXPECT_TRUE(same_bits(alone[l].repeated, threads[l].repeated));
    EXPECT_TRUE(same_bits(alone[l].repeated, beside[l].repeated));
    EXPECT_FALSE(same_bits(alone[l].repeated, other[l].repeated));
  }
}

// Keys of few bits are stored mixed, and so must queries be that they meet.
TEST(Repeat, OfEntriesOfFewBitsIsNearThatOfWholeOnes) {
  TinyModel tiny = wide();
  tiny.n_ctx_train = 2048;
  Loaded loaded(tiny);
  Engine composed(loaded.model, {.threads = 1, .attention = "ggml"});
  const Tokens tokens = random_tokens(loaded.tiny, 100, 1);
  const Probe probe{random_tokens(loaded.tiny, 60, 2), 10, 70};
  const auto peaks = [&](Engine& engine, const char* types) {
    std::vector<Shown> shown;
    SessionOptions o = repeating(RepeatScore::kPeak, 4, shown);
    o.types = CacheTypes::parse(types);
    engine.open(o)->prefill(tokens, {.probes = {probe}});
    return shown[0].repeated;
  };
  const std::vector<float> whole = peaks(loaded.engine, "f32");
  for (Engine* engine : {&loaded.engine, &composed}) {
    const std::vector<float> few = peaks(*engine, "q4_0,f32");
    // In halvings and doublings: 4 bits are a fraction of one on average, the wrong queries more than one.
    double off = 0;
    std::size_t n = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      if (whole[i] > 0) off += std::abs(std::log2(few[i] / whole[i])), ++n;
    }
    EXPECT_LT(off / (double)n, 0.6);
  }
}

TEST(Repeat, IsWhatItIsWhereGgmlAttends) {
  Loaded loaded(longer());
  Engine composed(loaded.model, {.threads = 1, .attention = "ggml"});
  const Tokens tokens = random_tokens(loaded.tiny, 100, 1);
  const Probe probe{random_tokens(loaded.tiny, 60, 2), 10, 70};
  std::vector<Shown> ours, theirs;
  loaded.engine.open(repeating(RepeatScore::kPeak, 4, ours))->prefill(tokens, {.probes = {probe}});
  composed.open(repeating(RepeatScore::kPeak, 4, theirs))->prefill(tokens, {.probes = {probe}});
  for (std::size_t l = 0; l < ours.size(); ++l) EXPECT_LT(distance(ours[l].repeated, theirs[l].repeated), 1e-5f);
}

TEST(Repeat, LeavesTheSessionAsIfItHadNotBeen) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 700, 3);
  for (const char* policy : {"full", "full:positions=compacted", "streaming-llm"}) {
    SCOPED_TRACE(policy);
    const auto o = with(policy, std::string(policy).starts_with("full") ? "" : "60", "f16", PrefillMode::kExact, 700);
    const auto plain = loaded.engine.open(o), probed = loaded.engine.open(o);
    for (const auto& part : {std::span(tokens).first(600), std::span(tokens).subspan(600)}) {
      plain->prefill(part);
      probed->prefill(part, {.probes = {{Tokens(40, 3), 5, 90}, {Tokens(50, 4), 0, 0}}});
      EXPECT_TRUE(same_bits(plain->logits(), probed->logits()));
    }
    EXPECT_EQ(plain->use().held_bytes, probed->use().held_bytes);
    plain->step(5);
    probed->step(5);
    EXPECT_TRUE(same_bits(plain->logits(), probed->logits()));
  }
}

// In a later turn the part is the turn's, and the first entries are those of the conversation.
TEST(Repeat, OfALaterTurnIsWhatItIsWhereAllIsReadAtOnce) {
  Loaded loaded(longer());
  const Tokens tokens = random_tokens(loaded.tiny, 300, 3), told = random_tokens(loaded.tiny, 60, 4);
  std::vector<Shown> whole, turn;
  loaded.engine.open(repeating(RepeatScore::kPeak, 4, whole))->prefill(tokens, {.probes = {{told, 120, 280}}});
  const auto s = loaded.engine.open(repeating(RepeatScore::kPeak, 4, turn));
  s->prefill(std::span(tokens).first(100));
  s->prefill(std::span(tokens).subspan(100), {.probes = {{told, 20, 180}}});
  for (std::size_t l = 0; l < whole.size(); ++l) {
    EXPECT_LT(distance(whole[l].repeated, turn[l].repeated), 1e-5f);
  }
}

TEST(Repeat, TakesTheMemoryThatWasPlanned) {
  for (const std::size_t n : {90, 700}) {
    Loaded loaded(longer());  // a fresh engine: sessions share what only grows
    SessionOptions o = with("kvzip:chunk=200", "40", "f16", PrefillMode::kExact, n, 10);
    o.repeat_frame = 30;
    const SessionPlan plan = loaded.engine.plan(o);
    const auto s = loaded.engine.open(o);
    std::vector<Probe> probes;
    for (std::size_t from = 0; from < n; from += 200) {
      const std::size_t to = std::min(from + 200, n);
      probes.push_back({Tokens(to - from + 30, 5), from, to});
    }
    Session* const reads[] = {s.get()};
    std::uint64_t workspace = 0, hidden = 0;
    PrefillJob::State job(loaded.engine.state(), reads, random_tokens(loaded.tiny, n, 13), {.probes = probes});
    while (job.advance()) {
      workspace = std::max(workspace, job.memory().workspace.bytes());
      hidden = std::max(hidden, job.memory().hidden.bytes());
    }
    EXPECT_EQ(plan.memory.layer_workspace, workspace);
    EXPECT_EQ(plan.memory.hidden_states + 64, hidden);  // a line to align it
    EXPECT_GE(plan.memory.compute, loaded.engine.state().place.graph_bytes());
  }
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
