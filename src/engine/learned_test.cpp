// Learned scores and inputs as policies are shown them.

#include <gtest/gtest.h>

#include "engine/test_session.h"
#include "lacake/policy_author.h"
#include "lacake/snapshot.h"
#include "model/loaded_model.h"
#include "policies/pinned.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

struct Seen {
  Phase phase;
  int layer;
  std::size_t n_new;
  std::vector<float> learned, inputs;
  bool operator==(const Seen&) const = default;
};

// Keeps everything and writes down what it sees.
class Listener final : public Policy {
 public:
  Listener(const Measures& asked, std::vector<Seen>& seen) : asked_(asked), seen_(seen) {}
  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase, int, std::size_t, std::size_t) const override { return asked_; }
  void update(const Observation& o, CacheEdits&) override {
    seen_.push_back(
        {o.phase, o.layer, o.n_new, {o.learned.begin(), o.learned.end()}, {o.inputs.begin(), o.inputs.end()}});
  }
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override { return n_held + n_new; }
  std::size_t reserve(int, int) const override { return 2000; }
  void resize(std::size_t, CacheEdits&) override {}
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Listener>(*this); }
  void visit(PolicyFields&) override {}

 private:
  PolicyTraits traits_;
  Measures asked_;
  std::vector<Seen>& seen_;
};

SessionOptions listening(const Measures& asked, std::vector<Seen>& seen, PrefillMode mode = PrefillMode::kExact) {
  PolicyType type{.name = "listener",
                  .summary = "keeps everything and listens",
                  .bounded = false,
                  .max_entries_per_layer = [](const auto&, const auto&, std::size_t) { return std::size_t{2000}; },
                  .min_cache_size = [](const auto&, const auto&) { return std::size_t{1}; },
                  .make = [asked, &seen](const auto&, const auto&, std::size_t) -> std::unique_ptr<Policy> {
                    return std::make_unique<Listener>(asked, seen);
                  }};
  SessionOptions o = with("full", "", "f32", mode, 900, 100);
  o.chunk = 200;
  o.policy.type = std::make_shared<PolicyType>(std::move(type));
  return o;
}

constexpr Measures kBoth{.learned = true, .inputs = true}, kLearned{.learned = true};

// What the map of a layer gives for the inputs, column by column.
std::vector<float> mapped(const Loaded& loaded, const Seen& seen) {
  const LearnedLayer& layer = *loaded.model.loaded().calibration->layers[(std::size_t)seen.layer];
  std::vector<float> scores(seen.n_new * layer.bias.size());
  for (std::size_t i = 0; i < seen.n_new; ++i) {
    learned_scores(layer, seen.inputs.data() + i * (std::size_t)loaded.tiny.n_embd, scores.data() + i, seen.n_new);
  }
  return scores;
}

// A prompt of more than one chunk of the computation, exact and streaming.
TEST(Learned, ScoresAreTheMapOfTheInputsOfEveryTokenOfAPrompt) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 700, 1);
  for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    std::vector<Seen> seen;
    loaded.engine.open(listening(kBoth, seen, mode))->prefill(tokens);
    ASSERT_EQ(seen.size(), (mode == PrefillMode::kExact ? 1u : 4u) * 4u);
    for (const Seen& s : seen) {
      ASSERT_EQ(s.inputs.size(), s.n_new * 16);
      ASSERT_TRUE(same_bits(s.learned, mapped(loaded, s))) << "layer " << s.layer;
    }
  }
}

// The first layer's input depends on nothing but the token itself, so that it can be told without the engine.
TEST(Learned, InputsAreWhatKeysAreProjectedFrom) {
  Loaded loaded(small());
  const Tokens tokens = {70, 80, 70, 90};
  std::vector<Seen> seen;
  loaded.engine.open(listening(kBoth, seen))->prefill(tokens);
  const auto column = [&](std::size_t i) { return std::span(seen[0].inputs).subspan(i * 16, 16); };
  EXPECT_TRUE(same_bits(column(0), column(2)));
  EXPECT_FALSE(same_bits(column(0), column(1)));
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& h = loaded.model.loaded().hyperparameters;
    const auto* row = (const float*)loaded.model.loaded().weights.token_embedding()->data + (std::size_t)tokens[i] * 16;
    const auto* norm = (const float*)loaded.model.loaded().weights.layer(0).attention_norm->data;
    double squares = 0;
    for (int c = 0; c < 16; ++c) squares += (double)row[c] * row[c];
    for (int c = 0; c < 16; ++c) {
      EXPECT_NEAR(column(i)[(std::size_t)c], row[c] / std::sqrt(squares / 16 + h.rms_epsilon) * norm[c], 1e-4);
    }
  }
}

TEST(Learned, ScoresDoNotDependOnThreadsNorOnHowAJobIsCut) {
  const Tokens tokens = random_tokens(small(), 600, 2);
  std::vector<Seen> one, two;
  Loaded a(small(), 1), b(small(), 2);
  a.engine.open(listening(kBoth, one))->prefill(tokens);
  const auto cut = b.engine.open(listening(kBoth, two)), beside = b.engine.open(with("full"));
  beside->prefill(std::span(tokens).first(9));
  Session* sessions[] = {cut.get()};
  const auto job = b.engine.start_prefill(sessions, tokens);
  while (job->advance()) beside->step(70);
  ASSERT_EQ(one.size(), two.size());
  for (std::size_t i = 0; i < one.size(); ++i) ASSERT_TRUE(same_bits(one[i].learned, two[i].learned));
}

TEST(Learned, EachOfSeveralOnlookersIsShownWhatItAskedFor) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 90, 3);
  std::vector<Seen> alone, both, learned, nothing;
  loaded.engine.open(listening(kBoth, alone))->prefill(tokens);
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<Session*> list;
  for (const SessionOptions& o : {listening({}, nothing), listening(kLearned, learned), listening(kBoth, both)}) {
    sessions.push_back(loaded.engine.open(o));
    list.push_back(sessions.back().get());
  }
  loaded.engine.prefill(list, tokens);
  ASSERT_EQ(alone.size(), 4u);
  for (std::size_t l = 0; l < 4; ++l) {
    EXPECT_TRUE(nothing[l].learned.empty() && nothing[l].inputs.empty());
    EXPECT_TRUE(learned[l].inputs.empty());
    EXPECT_TRUE(same_bits(learned[l].learned, alone[l].learned));
    EXPECT_TRUE(same_bits(both[l].learned, alone[l].learned));
    EXPECT_TRUE(same_bits(both[l].inputs, alone[l].inputs));
  }
}

TEST(Learned, AProbeHasNoScores) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 120, 4);
  std::vector<Seen> alone, probed;
  loaded.engine.open(listening(kBoth, alone))->prefill(std::span(tokens).first(100));
  loaded.engine.open(listening(kBoth, probed))
      ->prefill(std::span(tokens).first(100), {.probes = {{.tokens = {tokens.begin() + 100, tokens.end()}}}});
  ASSERT_EQ(probed.size(), 4u);
  for (std::size_t l = 0; l < 4; ++l) {
    EXPECT_TRUE(same_bits(probed[l].learned, alone[l].learned));
    EXPECT_TRUE(same_bits(probed[l].inputs, alone[l].inputs));
  }
}

// Batches with and without somebody who asks, of both kinds of keys, one after the other.
TEST(Learned, ScoresOfAStepAreThoseThatASessionGetsAlone) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 30, 5);
  std::vector<Seen> alone, together;
  const auto a = loaded.engine.open(listening(kLearned, alone));
  const auto b = loaded.engine.open(listening(kLearned, together));
  const auto plain = loaded.engine.open(with("full:positions=compacted"));
  for (Session* s : {a.get(), b.get(), plain.get()}) s->prefill(std::span(tokens).first(20));
  for (std::size_t i = 20; i < tokens.size(); ++i) {
    a->step(tokens[i]);
    const Engine::Next batch[] = {{plain.get(), tokens[i - 1]}, {b.get(), tokens[i]}};
    loaded.engine.step(batch);
    if (i % 3 == 0) plain->step(70);
    ASSERT_TRUE(same_bits(a->logits(), b->logits()));
  }
  ASSERT_EQ(alone.size(), 4u * 11);
  ASSERT_EQ(together.size(), alone.size());
  for (std::size_t i = 4; i < alone.size(); ++i) {
    ASSERT_EQ(alone[i].learned.size(), 2u);
    ASSERT_TRUE(same_bits(alone[i].learned, together[i].learned));
    EXPECT_EQ(together[i].layer, alone[i].layer);
  }
}

TEST(Learned, ScoresOfAStepAreNearThoseOfTheSameTokenInAPrompt) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 30, 6);
  std::vector<Seen> whole, steps;
  loaded.engine.open(listening(kLearned, whole))->prefill(tokens);
  const auto s = loaded.engine.open(listening(kLearned, steps));
  for (const Token token : tokens) s->step(token);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    for (std::size_t head = 0; head < 2; ++head) {
      EXPECT_NEAR(steps[i].learned[head], whole[i % 4].learned[head * 30 + i / 4], 1e-3) << i;
    }
  }
}

// Layers that slide have none; the policy's are counted without them.
TEST(Learned, ScoresAreOfLayersWithFullAttention) {
  TinyModel tiny = models::variant("gemma3").model;
  Loaded loaded(tiny);
  std::vector<Seen> seen;
  const auto s = loaded.engine.open(listening(kLearned, seen));
  s->prefill(random_tokens(tiny, 40, 7));
  s->step(70);
  const auto n = (std::size_t)loaded.model.facts().policy_attention().n_layer;
  ASSERT_EQ(seen.size(), 2 * n);
  for (const Seen& one : seen) {
    EXPECT_EQ(one.learned.size(), one.n_new * (std::size_t)tiny.n_head_kv);
    for (const float x : one.learned) ASSERT_NE(x, 0.0f);
  }
}

// Pinned tokens are none to the policy behind them.
TEST(Learned, PinnedTokensAreLeftOut) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 50, 8);
  std::vector<Seen> all, behind;
  loaded.engine.open(listening(kBoth, all))->prefill(tokens);
  SessionOptions o = listening(kBoth, behind);
  PolicyType type = *o.policy.type;
  type.bounded = true;
  o.policy = {.type = std::make_shared<PolicyType>(with_pinned(type)), .settings = {{kPinned, 7}}, .cache_size = 100};
  loaded.engine.open(o)->prefill(tokens);
  ASSERT_EQ(behind.size(), 4u);
  for (std::size_t l = 0; l < 4; ++l) {
    for (std::size_t head = 0; head < 2; ++head) {
      const auto of = [&](const Seen& s, std::size_t skip) {
        return std::span(s.learned).subspan(head * s.n_new + skip, 43);
      };
      EXPECT_TRUE(same_bits(of(behind[l], 0), of(all[l], 7)));
    }
    EXPECT_TRUE(same_bits(behind[l].inputs, std::span(all[l].inputs).subspan(7 * 16)));
  }
}

// What a session begins with it ends with: a calibration that comes later is not used by what was saved before.
TEST(Learned, JudgeTextsOfTrellisFromASessionsBeginningOrNever) {
  const TemporaryFolder folder;
  const TinyModel tiny = small();
  const ModelFile file(tiny);
  const models::TinyCalibration calibration(file.path());
  const Model plain(file.path(), {.calibration = "none"}), calibrated(file.path(), {.calibration = calibration.path()});
  Engine before(plain, {.threads = 1}), after(calibrated, {.threads = 1});
  const Tokens text = random_tokens(tiny, 120, 9);
  const auto read = [&](Engine& engine, const std::string& path) {
    const auto session = engine.open(with("trellis", "40"));
    session->prefill(text, {.more_follows = true});
    session->save(path);
    return session->options().policy.text();
  };
  const std::string old = folder.path("old.kv"), now = folder.path("now.kv");
  EXPECT_EQ(read(before, old), "trellis");
  EXPECT_EQ(read(after, now), "trellis:learned=on");
  const auto goes_on = [&](Engine& engine, const std::string& path) {
    const auto session = engine.open(Snapshot(path));
    session->prefill(random_tokens(tiny, 30, 10), {.more_follows = true});
    return std::pair(session->options().policy.text(), logits_of(*session));
  };
  EXPECT_EQ(goes_on(after, old).first, "trellis");
  EXPECT_EQ(goes_on(after, old).second, goes_on(before, old).second);
  EXPECT_EQ(goes_on(after, now).first, "trellis:learned=on");
  EXPECT_TRUE(contains(refusal(Error::Kind::kUsage, [&] { goes_on(before, now); }), "learned scores"));
}

}  // namespace
}  // namespace lacake
