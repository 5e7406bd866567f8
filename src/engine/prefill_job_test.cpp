#include "engine/prefill_job.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "engine/test_session.h"

namespace lacake {
namespace {

// Everything that a session shows: what it keeps, in which order, what it says next.
struct Seen {
  Tokens tokens;
  Logits logits;
  std::vector<std::vector<std::int64_t>> kept;
  std::uint64_t held = 0;
};

Seen seen(const Session& s, const TinyModel& tiny) {
  Seen all{s.tokens(), logits_of(s), {}, s.use().held_bytes};
  for (int l = 0; l < tiny.n_layer; ++l) {
    for (int h = 0; h < tiny.n_head_kv; ++h) all.kept.push_back(s.kept(l, h));
  }
  return all;
}

void expect_same(const Seen& a, const Seen& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.kept, b.kept);
  EXPECT_EQ(a.held, b.held);
  ASSERT_EQ(a.logits.size(), b.logits.size());
  EXPECT_TRUE(a.logits.empty() || same_bits(a.logits, b.logits));
}

std::string budget_of(const std::string& policy) { return policy.starts_with("full") ? "" : "60"; }

std::size_t steps_of(Engine& engine, Session& session, std::span<const Token> tokens) {
  Session* const reads[] = {&session};
  const auto job = engine.start_prefill(reads, tokens);
  std::size_t n = 1;
  while (job->advance()) ++n;
  return n;
}

// How a session is read into: exact or in chunks, at which turn it is stopped.
struct Case {
  const char* policy;
  PrefillMode mode;
  int turn;
};

class StoppedPrefill : public testing::TestWithParam<Case> {};

// Fifty times, at a random step: the session goes on as one that was never stopped, and so does its next attempt.
TEST_P(StoppedPrefill, LeavesTheSessionAsItWas) {
  const auto [policy, mode, turn] = GetParam();
  TinyModel tiny = small();
  tiny.n_ctx_train = 4096;
  Loaded loaded(tiny);
  SessionOptions o = with(policy, budget_of(policy), "f16", mode, 700, 1400);
  o.chunk = 130;
  const Tokens turns[] = {random_tokens(tiny, 600, 1), random_tokens(tiny, 150, 2), random_tokens(tiny, 540, 3)};
  const auto at_turn = [&] {
    auto s = loaded.engine.open(o);
    for (int t = 0; t < turn; ++t) {
      s->prefill(turns[t]);
      for (Token token = 5; token < 10; ++token) s->step(token);
    }
    return s;
  };
  const Tokens& text = turns[turn];
  const auto whole = at_turn();
  const std::size_t n_steps = steps_of(loaded.engine, *whole, text);
  for (Token token = 40; token < 60; ++token) whole->step(token);
  const Seen expected = seen(*whole, tiny);

  const auto s = at_turn();
  const Seen before = seen(*s, tiny);
  std::mt19937 random(7);
  for (int i = 0; i < 50; ++i) {
    Session* const reads[] = {s.get()};
    const std::size_t at = random() % n_steps;
    {
      const auto job = loaded.engine.start_prefill(reads, text);
      for (std::size_t step = 0; step < at; ++step) ASSERT_TRUE(job->advance());
      EXPECT_EQ(s->status(), SessionStatus::kReading);
    }
    ASSERT_EQ(s->status(), SessionStatus::kReady) << "stopped before step " << at;
    ASSERT_NO_FATAL_FAILURE(expect_same(seen(*s, tiny), before)) << "stopped before step " << at;
  }
  ASSERT_TRUE(s->prefill(text));
  for (Token token = 40; token < 60; ++token) s->step(token);
  expect_same(seen(*s, tiny), expected);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* policy :
       {"full", "full:positions=compacted", "streaming-llm", "lacache", "cake:window=8",
        "snapkv:window=8,heads=adaptive", "h2o", "keydiff", "tova", "pyramidkv:window=8", "trellis", "random"}) {
    for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
      for (const int turn : {0, 2}) all.push_back({policy, mode, turn});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Policies, StoppedPrefill, testing::ValuesIn(cases()), [](const auto& which) {
  std::string name = which.param.policy;
  for (char& c : name) c = std::isalnum((unsigned char)c) ? c : '_';
  return name + (which.param.mode == PrefillMode::kExact ? "_exact" : "_streaming") + "_turn" +
         std::to_string(which.param.turn + 1);
});

// Two prompts and two answers at the same time, in a hundred orders: each is what it is alone.
TEST(PrefillJob, WorkInAnyOrderGivesWhatEachGivesAlone) {
  TinyModel tiny = small();
  tiny.n_ctx_train = 2048;
  Loaded loaded(tiny, 2);
  const Tokens prompts[] = {random_tokens(tiny, 700, 21), random_tokens(tiny, 530, 22)};
  const Tokens starts[] = {random_tokens(tiny, 90, 23), random_tokens(tiny, 70, 24)};
  const SessionOptions reading[] = {with("cake:window=8", "60", "f16", PrefillMode::kExact, 700),
                                    with("lacache", "60", "bf16", PrefillMode::kStreaming, 530)};
  const SessionOptions answering[] = {with("trellis", "60", "f16", PrefillMode::kExact, 90),
                                      with("streaming-llm", "50", "f32", PrefillMode::kExact, 70)};
  constexpr int kSteps = 30;
  const auto token_at = [](int session, int step) { return (Token)(10 + 7 * session + step); };

  Engine& engine = loaded.engine;
  std::vector<Seen> alone;
  for (int i = 0; i < 2; ++i) {
    const auto s = engine.open(reading[i]);
    s->prefill(prompts[i]);
    s->step(3);
    alone.push_back(seen(*s, tiny));
  }
  for (int i = 0; i < 2; ++i) {
    const auto s = engine.open(answering[i]);
    s->prefill(starts[i]);
    for (int step = 0; step < kSteps; ++step) s->step(token_at(i, step));
    alone.push_back(seen(*s, tiny));
  }

  for (unsigned seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::unique_ptr<Session> read[2], answer[2];
    std::unique_ptr<PrefillJob> jobs[2];
    for (int i = 0; i < 2; ++i) {
      read[i] = engine.open(reading[i]);
      answer[i] = engine.open(answering[i]);
      answer[i]->prefill(starts[i]);
      Session* const reads[] = {read[i].get()};
      jobs[i] = engine.start_prefill(reads, prompts[i]);
    }
    int steps[2] = {0, 0};
    while (!jobs[0]->finished() || !jobs[1]->finished() || steps[0] < kSteps || steps[1] < kSteps) {
      const unsigned action = random() % 5;
      if (action < 2) {
        jobs[action]->advance();
      } else if (action == 4 && steps[0] < kSteps && steps[1] < kSteps) {
        const Engine::Next both[] = {{answer[0].get(), token_at(0, steps[0])},
                                     {answer[1].get(), token_at(1, steps[1])}};
        engine.step(both);
        ++steps[0], ++steps[1];
      } else if (action < 4 && steps[action - 2] < kSteps) {
        answer[action - 2]->step(token_at((int)action - 2, steps[action - 2]));
        ++steps[action - 2];
      }
    }
    for (int i = 0; i < 2; ++i) {
      read[i]->step(3);
      ASSERT_NO_FATAL_FAILURE(expect_same(seen(*read[i], tiny), alone[(std::size_t)i]));
      ASSERT_NO_FATAL_FAILURE(expect_same(seen(*answer[i], tiny), alone[(std::size_t)i + 2]));
    }
  }
}

TEST(PrefillJob, TwoEnginesWorkAtTheSameTime) {
  TinyModel tiny = small();
  const ModelFile file(tiny);
  const Model model(file.path());
  const Tokens prompt = random_tokens(tiny, 90, 31);
  const auto talk = [&](int threads) {
    Engine engine(model, {.threads = threads});
    const auto s = engine.open(with("cake:window=8", "40", "f16", PrefillMode::kExact, 90));
    s->prefill(prompt);
    for (Token t = 0; t < 40; ++t) s->step(t);
    return seen(*s, tiny);
  };
  const Seen expected = talk(1);
  Seen found[2];
  std::thread other([&] { found[1] = talk(2); });
  found[0] = talk(2);
  other.join();
  for (const Seen& f : found) expect_same(f, expected);
}

// Measures, decisions and a cascade's layers are divided among threads.
TEST(PrefillJob, LeavesTheSameOnTwoThreadsAsOnOne) {
  TinyModel tiny = small();
  tiny.n_ctx_train = 2048;
  Loaded one(tiny, 1), two(tiny, 2);
  const Tokens prompt = random_tokens(tiny, 220, 37);
  for (const PolicyType& type : policy_types()) {
    if (!type.bounded) continue;
    for (const bool more_follows : {false, true}) {
      const auto read = [&](Loaded& loaded) {
        const auto s = loaded.engine.open(with(type.name, "90", "f16", PrefillMode::kExact, 220));
        s->prefill(std::span(prompt).first(150), {.more_follows = more_follows});
        s->prefill(std::span(prompt).subspan(150));
        s->step(3);
        return seen(*s, tiny);
      };
      SCOPED_TRACE(type.name + (more_follows ? " before a question" : ""));
      expect_same(read(two), read(one));
    }
  }
}

TEST(PrefillJob, OwnsItsMemoryAndGivesItBack) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 90, 41);
  const auto s = loaded.engine.open(with("cake:window=8", "40", "f16", PrefillMode::kExact, 90));
  s->prefill(prompt);
  Session* const reads[] = {s.get()};
  const auto job = loaded.engine.start_prefill(reads, std::span(prompt).first(60));
  EXPECT_EQ(job->bytes(), 0u);
  std::uint64_t most = 0, copies = 0;
  while (job->advance()) most = std::max(most, job->bytes()), copies = std::max(copies, job->copy_bytes());
  EXPECT_TRUE(job->finished());
  EXPECT_FALSE(job->advance());
  EXPECT_EQ(job->bytes(), 0u);
  const MemoryPlan& plan = s->plan().memory;
  EXPECT_GT(copies, 0u);
  EXPECT_LE(copies, plan.turn_copy);
  EXPECT_LE(most - copies, plan.layer_workspace + plan.hidden_states + 64);
}

TEST(PrefillJob, APolicyThatKeepsEverythingNeedsNoCopyOfItsRows) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 90, 42);
  const auto s = loaded.engine.open(with("full", "", "f16", PrefillMode::kExact, 90));
  s->prefill(std::span(prompt).first(40));
  Session* const reads[] = {s.get()};
  const auto job = loaded.engine.start_prefill(reads, std::span(prompt).subspan(40));
  while (job->advance()) EXPECT_LE(job->copy_bytes(), 4096u);
}

std::string state_error(const std::function<void()>& call) { return refusal(Error::Kind::kState, call); }

TEST(PrefillJob, ASessionThatReadsTakesNothingElse) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 60, 43);
  const auto s = loaded.engine.open(with("full", "", "f16", PrefillMode::kExact, 90));
  Session* const reads[] = {s.get()};
  auto job = loaded.engine.start_prefill(reads, prompt);
  EXPECT_EQ(s->status(), SessionStatus::kReading);
  EXPECT_TRUE(contains(state_error([&] { s->step(1); }), "reads a prompt"));
  EXPECT_TRUE(contains(state_error([&] { s->prefill(prompt); }), "reads a prompt"));
  EXPECT_TRUE(contains(state_error([&] { s->resize(Budget::parse("50")); }), "reads a prompt"));
  job->advance();
  job.reset();
  EXPECT_EQ(s->status(), SessionStatus::kReady);
  EXPECT_TRUE(s->prefill(prompt));
}

TEST(PrefillJob, LosesItsSessionsWhenOneIsClosed) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 60, 44);
  const auto options = with("cake:window=8", "40", "f16", PrefillMode::kExact, 60);
  auto a = loaded.engine.open(options), b = loaded.engine.open(options);
  Session* const reads[] = {a.get(), b.get()};
  const auto job = loaded.engine.start_prefill(reads, prompt);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(job->advance());
  a.reset();
  EXPECT_EQ(b->status(), SessionStatus::kReady);
  EXPECT_EQ(b->use().held_bytes, 0u);
  EXPECT_TRUE(contains(state_error([&] { job->advance(); }), "closed"));
  EXPECT_TRUE(b->prefill(prompt));
}

TEST(PrefillJob, AHookThatThrowsTakesEverythingBack) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 60, 45);
  for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    const auto s = loaded.engine.open(with("cake:window=8", "40", "f16", mode, 60));
    s->prefill(std::span(prompt).first(40));
    const Seen before = seen(*s, loaded.tiny);
    int calls = 0;
    PrefillOptions options;
    options.progress = [&](std::size_t, std::size_t) -> bool {
      if (++calls == 5) throw std::runtime_error("gone");
      return true;
    };
    EXPECT_THROW(s->prefill(prompt, options), std::runtime_error);
    EXPECT_EQ(s->status(), SessionStatus::kReady);
    expect_same(seen(*s, loaded.tiny), before);
  }
}

TEST(PrefillJob, ASecondTurnThatWasDeclaredAwayIsRefusedAndCostsNoCopy) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 40, 46);
  SessionOptions options = with("cake:window=8", "30", "f16", PrefillMode::kExact, 40);
  EXPECT_GT(loaded.engine.plan(options).memory.turn_copy, 0u);
  options.single_turn = true;
  EXPECT_EQ(loaded.engine.plan(options).memory.turn_copy, 0u);
  const auto s = loaded.engine.open(options);
  s->prefill(prompt);
  s->step(1);
  EXPECT_TRUE(contains(state_error([&] { s->prefill(prompt); }), "single_turn"));
  s->step(2);
}

// --- batches and arguments -------------------------------------------------------------------------------------------

TEST(Step, RefusesSessionsThatAreNotItsOwn) {
  Loaded loaded(small()), elsewhere(small());
  const auto options = with("full", "", "f16", PrefillMode::kExact, 10);
  const auto own = loaded.engine.open(options), foreign = elsewhere.engine.open(options);
  auto closed = loaded.engine.open(options);
  Session* const gone = closed.get();
  closed.reset();
  const auto refused = [&](std::vector<Engine::Next> batch) { return state_error([&] { loaded.engine.step(batch); }); };
  EXPECT_TRUE(contains(refused({{own.get(), 1}, {foreign.get(), 1}}), "another engine's"));
  EXPECT_TRUE(contains(refused({{own.get(), 1}, {gone, 1}}), "closed"));
  EXPECT_TRUE(contains(refused({{own.get(), 1}, {own.get(), 2}}), "twice"));
  EXPECT_TRUE(contains(refused({{nullptr, 1}}), "found none"));
  EXPECT_EQ(own->tokens().size(), 0u);
  Session* const both[] = {own.get(), foreign.get()};
  EXPECT_TRUE(contains(state_error([&] {
                         (void)loaded.engine.start_prefill(both, Tokens{1, 2});
                       }),
                       "another engine's"));
  own->step(1);
}

TEST(Step, RefusesTokensThatAreNotInTheVocabulary) {
  Loaded loaded(small());
  const auto s = loaded.engine.open(with("full", "", "f16", PrefillMode::kExact, 10));
  for (const Token token : {-1, loaded.model.facts().n_vocab}) {
    EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { s->step(token); }), "token: expected 0 to"));
    EXPECT_NE(refusal(Error::Kind::kInput, [&] { s->prefill(Tokens{1, token}); }), "");
  }
  EXPECT_NE(refusal(Error::Kind::kInput, [&] { s->prefill({}); }), "");
  EXPECT_EQ(s->status(), SessionStatus::kReady);
}

}  // namespace
}  // namespace lacake
