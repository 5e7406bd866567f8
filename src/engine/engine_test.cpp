#include "lacake/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/test_session.h"
#include "property/specs.h"

namespace lacake {
namespace {

std::vector<std::vector<std::int64_t>> all_kept(const Session& s, const TinyModel& t) {
  std::vector<std::vector<std::int64_t>> kept;
  for (int l = 0; l < t.n_layer; ++l) {
    for (int h = 0; h < t.n_head_kv; ++h) kept.push_back(s.kept(l, h));
  }
  return kept;
}

// --- sessions together --------------------------------------------------------------------------------------

struct Talk {
  SessionOptions options;
  std::size_t n_prompt;
};

std::vector<Talk> three_and_more() {
  return {{with("full", "", "f16", PrefillMode::kExact, 37), 37},
          {with("lacache", "40", "f32"), 90},
          {with("cake:window=4", "36", "f16"), 70},
          {with("streaming-llm", "24", "f32,f16", PrefillMode::kStreaming), 61}};
}

void expect_together_as_alone(Loaded& loaded, std::size_t n_steps, std::size_t n_talks = 4) {
  std::vector<std::unique_ptr<Session>> together, alone;
  unsigned seed = 0;
  std::vector<Talk> talks = three_and_more();
  talks.resize(n_talks);
  for (const Talk& talk : talks) {
    const Tokens prompt = random_tokens(loaded.tiny, talk.n_prompt, ++seed);
    for (auto* list : {&together, &alone}) {
      list->push_back(loaded.engine.open(talk.options));
      ASSERT_TRUE(list->back()->prefill(prompt));
    }
    ASSERT_TRUE(same_bits(together.back()->logits(), alone.back()->logits()));
  }
  const Tokens next = random_tokens(loaded.tiny, n_steps * together.size(), 99);
  for (std::size_t step = 0; step < n_steps; ++step) {
    std::vector<Engine::Next> batch;
    for (std::size_t i = 0; i < together.size(); ++i) {
      const Token token = next[step * together.size() + i];
      batch.push_back({together[i].get(), token});
      alone[i]->step(token);
    }
    std::rotate(batch.begin(), batch.begin() + (std::ptrdiff_t)(step % batch.size()), batch.end());
    loaded.engine.step(batch);
    for (std::size_t i = 0; i < together.size(); ++i) {
      ASSERT_TRUE(same_bits(together[i]->logits(), alone[i]->logits())) << "session " << i << " step " << step;
      ASSERT_EQ(all_kept(*together[i], loaded.tiny), all_kept(*alone[i], loaded.tiny)) << "session " << i;
    }
  }
}

TEST(Engine, ThreeSessionsTogetherGiveBitForBitWhatEachGivesAlone) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1}) {
    for (const bool tied : {true, false}) {
      for (const char* product : {"auto", "ggml"}) {
        SCOPED_TRACE(std::string(product) + ", " + ggml_type_name(type) + (tied ? " tied" : " untied"));
        TinyModel tiny = wide();
        tiny.weights = type;
        tiny.tied = tied;
        Loaded loaded(tiny, 1, product);
        ASSERT_NO_FATAL_FAILURE(expect_together_as_alone(loaded, 20));
      }
    }
  }
}

// Short: on a busy machine every node of a tiny graph waits for a thread that does not run.
TEST(Engine, SessionsTogetherGiveWhatEachGivesAloneOnTwoThreads) {
  TinyModel tiny = wide();
  tiny.n_layer = 2;
  tiny.weights = GGML_TYPE_Q4_0;
  Loaded loaded(tiny, 2);
  expect_together_as_alone(loaded, 2, 3);
}

// Weights that ggml stores in an order of its own are multiplied column by column, so a graph's nodes grow with these.
TEST(Engine, ManySessionsStepTogetherWhereGgmlMultiplies) {
  TinyModel tiny = wide();
  tiny.n_layer = 8;
  tiny.weights = GGML_TYPE_Q4_0;
  Loaded loaded(tiny, 1, "ggml");
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<Engine::Next> batch;
  for (int i = 0; i < 9; ++i) {
    sessions.push_back(loaded.engine.open(with("full", "", "f16", PrefillMode::kExact, 8)));
    ASSERT_TRUE(sessions.back()->prefill(random_tokens(tiny, 8, 3)));
    batch.push_back({sessions.back().get(), 5});
  }
  sessions.front()->step(5);
  loaded.engine.step(std::span(batch).subspan(1));
  for (const auto& session : sessions) EXPECT_TRUE(same_bits(session->logits(), sessions.front()->logits()));
}

TEST(Engine, ThreadsDoNotChangeABit) {
  // Policies whose updates of a token's layers are divided among the threads: by selections, and entry by entry.
  const std::pair<ggml_type, const char*> cases[] = {{GGML_TYPE_F32, "cake:window=8"},
                                                     {GGML_TYPE_Q4_0, "cake:window=8"},
                                                     {GGML_TYPE_F32, "trellis:evict_fraction=0.1"},
                                                     {GGML_TYPE_Q4_0, "trellis:evict_fraction=0"}};
  for (const auto& [type, policy] : cases) {
    SCOPED_TRACE(std::string(ggml_type_name(type)) + " " + policy);
    TinyModel tiny = wide();
    tiny.n_layer = 2;
    tiny.weights = type;
    const Tokens prompt = random_tokens(tiny, 90, 5);
    std::vector<Logits> results;
    std::vector<decltype(all_kept(std::declval<Session&>(), tiny))> kept;
    for (const int threads : {1, 2}) {
      Loaded loaded(tiny, threads);
      const auto s = loaded.engine.open(with(policy, "40"));
      s->prefill(prompt);
      for (int i = 0; i < 3; ++i) s->step(prompt[(std::size_t)i]);
      results.push_back(logits_of(*s));
      kept.push_back(all_kept(*s, tiny));
    }
    EXPECT_TRUE(same_bits(results[0], results[1]));
    EXPECT_EQ(kept[0], kept[1]);
  }
}

TEST(Engine, SessionsThatWatchOnePassGiveWhatEachGivesAlone) {
  Loaded loaded(wide());
  const Tokens prompt = random_tokens(loaded.tiny, 80, 3);
  const SessionOptions watchers[] = {with("full", "", "f32", PrefillMode::kExact, 80),
                                     with("cake:window=4", "30"),
                                     with("cake:window=9", "42", "f16"),
                                     with("cake:window=9", "50"),
                                     with("streaming-llm", "20"),
                                     with("lacache", "40"),
                                     with("full:positions=compacted", "", "f32", PrefillMode::kExact, 80)};
  std::vector<std::unique_ptr<Session>> together, alone;
  std::vector<Session*> list;
  for (const SessionOptions& o : watchers) {
    together.push_back(loaded.engine.open(o));
    list.push_back(together.back().get());
    alone.push_back(loaded.engine.open(o));
    ASSERT_TRUE(alone.back()->prefill(prompt));
  }
  ASSERT_TRUE(loaded.engine.prefill(list, prompt));
  for (int step = 0; step < 6; ++step) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      SCOPED_TRACE(watchers[i].policy.text() + " step " + std::to_string(step));
      ASSERT_TRUE(same_bits(together[i]->logits(), alone[i]->logits()));
      ASSERT_EQ(all_kept(*together[i], loaded.tiny), all_kept(*alone[i], loaded.tiny));
      EXPECT_EQ(together[i]->use().peak_bytes, alone[i]->use().peak_bytes);
      for (Session* s : {together[i].get(), alone[i].get()}) s->step(prompt[(std::size_t)step]);
    }
  }
}

// Every policy in every form at once: caches that keep keys rotated beside those that don't, and each kind of measure.
void expect_one_pass_as_alone(int threads) {
  Loaded loaded(small(), threads);
  const Tokens prompt = random_tokens(loaded.tiny, 90, 3);
  std::vector<SessionOptions> grid;
  for (const PolicySpec& spec : simulation::every_choice()) {
    grid.push_back(with("full", spec.type->bounded ? "70" : "", "f16", PrefillMode::kExact, prompt.size()));
    grid.back().policy = spec;
  }
  std::vector<std::unique_ptr<Session>> together;
  std::vector<Session*> list;
  for (const SessionOptions& o : grid) {
    together.push_back(loaded.engine.open(o));
    list.push_back(together.back().get());
  }
  PrefillOptions hooks;
  hooks.progress = [&](std::size_t, std::size_t total) {
    EXPECT_EQ(total, prompt.size());
    return true;
  };
  ASSERT_TRUE(loaded.engine.prefill(list, prompt, hooks));
  for (std::size_t i = 0; i < grid.size(); ++i) {
    SCOPED_TRACE(grid[i].policy.text() + " " + grid[i].budget.text());
    const auto alone = loaded.engine.open(grid[i]);
    ASSERT_TRUE(alone->prefill(prompt));
    EXPECT_EQ(together[i]->use().peak_bytes, alone->use().peak_bytes);
    for (int step = 0; step < 2; ++step) {
      ASSERT_EQ(all_kept(*together[i], loaded.tiny), all_kept(*alone, loaded.tiny)) << "step " << step;
      ASSERT_TRUE(same_bits(together[i]->logits(), alone->logits())) << "step " << step;
      for (Session* s : {together[i].get(), alone.get()}) s->step(prompt[(std::size_t)step]);
    }
  }
}

TEST(Engine, AGridOfAllPoliciesTakesOnePassAndGivesWhatEachGivesAlone) { expect_one_pass_as_alone(1); }
TEST(Engine, AGridOnTwoThreadsGivesWhatEachGivesAlone) { expect_one_pass_as_alone(2); }

// The second turn meets keys that were kept as projected by a first one that attended over rotated ones.
TEST(Engine, TheFirstSegmentAnswersTheSameInBothFormsOfKeys) {
  Loaded loaded(wide());
  const Tokens prompt = random_tokens(loaded.tiny, 90, 8);
  const auto rotated = loaded.engine.open(with("full", "", "f16", PrefillMode::kExact, 90));
  const auto plain = loaded.engine.open(with("full:positions=compacted", "", "f16", PrefillMode::kExact, 90));
  for (const auto* s : {&rotated, &plain}) (*s)->prefill({prompt.data(), 60});
  EXPECT_TRUE(same_bits(rotated->logits(), plain->logits()));
  for (const auto* s : {&rotated, &plain}) (*s)->prefill({prompt.data() + 60, 30});
  const float difference = distance(rotated->logits(), plain->logits());
  EXPECT_LT(difference, 0.015f);
  EXPECT_GT(difference, 0.0f);  // each kept its own form
}

// --- nothing evicted ----------------------------------------------------------------------------------------

TEST(Engine, ExactStreamingAndTokenByTokenAgree) {
  Loaded loaded(wide());
  const Tokens prompt = random_tokens(loaded.tiny, 100, 7);
  for (const char* policy : {"full", "full:positions=compacted", "streaming-llm", "lacache", "cake"}) {
    SCOPED_TRACE(policy);
    const bool full = std::string(policy).rfind("full", 0) == 0;
    const std::string budget = full ? "" : "200";
    const auto exact = loaded.engine.open(with(policy, budget, "f32", PrefillMode::kExact, 100));
    SessionOptions in_chunks = with(policy, budget, "f32", PrefillMode::kStreaming, 100);
    in_chunks.chunk = 17;
    const auto streaming = loaded.engine.open(in_chunks);
    const auto steps = loaded.engine.open(with(policy, budget, "f32", PrefillMode::kExact, 100));
    exact->prefill(prompt);
    streaming->prefill(prompt);
    steps->prefill({prompt.data(), 1});
    for (std::size_t i = 1; i < prompt.size(); ++i) steps->step(prompt[i]);
    EXPECT_LT(distance(exact->logits(), streaming->logits()), 1e-4f);
    EXPECT_LT(distance(exact->logits(), steps->logits()), 1e-4f);
  }
}

TEST(Engine, NothingEvictedIsTheFullCache) {
  Loaded loaded(wide());
  const Tokens prompt = random_tokens(loaded.tiny, 90, 8);
  const struct {
    const char *full, *other;
  } pairs[] = {{"full", "cake"},
               {"full", "cake:window=4"},
               {"full:positions=compacted", "streaming-llm"},
               {"full:positions=compacted", "lacache"},
               {"full:positions=compacted", "lacache:span=2"}};
  for (const auto& pair : pairs) {
    for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
      for (const char* types : {"f32", "f16", "bf16", "q8_0", "q4_0", "q8_0,f16"}) {
        SCOPED_TRACE(std::string(pair.other) + " " + types + (mode == PrefillMode::kExact ? " exact" : " streaming"));
        SessionOptions a = with(pair.full, "", types, mode, 90), b = with(pair.other, "200", types, mode, 90);
        a.chunk = b.chunk = 24;
        const auto full = loaded.engine.open(a), other = loaded.engine.open(b);
        full->prefill(prompt);
        other->prefill(prompt);
        ASSERT_TRUE(same_bits(full->logits(), other->logits()));
        for (std::size_t i = 0; i < 10; ++i) {
          full->step(prompt[i]);
          other->step(prompt[i]);
          ASSERT_TRUE(same_bits(full->logits(), other->logits())) << "step " << i;
        }
      }
    }
  }
}

TEST(Engine, AllLogitsHookGivesEveryToken) {
  Loaded loaded(wide());
  const Tokens prompt = random_tokens(loaded.tiny, 75, 21);
  const std::span<const Token> all(prompt);
  for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    SessionOptions o = with("full", "", "f32", mode, 75);
    o.chunk = 20;
    std::vector<Logits> every;
    PrefillOptions hooks;
    hooks.all_logits = [&](std::size_t index, std::span<const float> logits) {
      EXPECT_EQ(index, every.size());
      every.emplace_back(logits.begin(), logits.end());
    };
    const auto s = loaded.engine.open(o);
    s->prefill(prompt, hooks);
    ASSERT_EQ(every.size(), 75u);
    EXPECT_TRUE(same_bits(every.back(), s->logits()));
    for (const std::size_t n : {1, 33, 64}) {
      const auto part = loaded.engine.open(o);
      part->prefill(all.subspan(0, n));
      EXPECT_LT(distance(every[n - 1], part->logits()), 1e-4f) << n;
    }
  }
}

// A prompt longer than what goes through a layer at once.
TEST(Engine, PromptsOfSeveralComputeChunksAgreeWithSmallChunks) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 1100, 22);
  const auto exact = loaded.engine.open(with("full", "", "f32", PrefillMode::kExact, 1100));
  SessionOptions o = with("full", "", "f32", PrefillMode::kStreaming, 1100);
  o.chunk = 100;
  const auto streaming = loaded.engine.open(o);
  exact->prefill(prompt);
  streaming->prefill(prompt);
  EXPECT_LT(distance(exact->logits(), streaming->logits()), 1e-4f);
}

}  // namespace
}  // namespace lacake
