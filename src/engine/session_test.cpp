#include "engine/prefill_job.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/test_session.h"
#include "property/specs.h"

namespace lacake {
namespace {

// --- the budget ---------------------------------------------------------------------------------------------

// Feeds a conversation of two turns; calls `check` after every segment and every token.
void converse(Session& s, const Tokens& tokens, const std::function<void()>& check) {
  const std::span<const Token> all(tokens);
  const auto answer = [&](std::size_t from, std::size_t n) {
    for (std::size_t i = from; i < from + n; ++i) s.step(tokens[i]), check();
  };
  ASSERT_TRUE(s.prefill(all.subspan(0, 90)));
  check();
  answer(90, 20);
  ASSERT_TRUE(s.prefill(all.subspan(110, 30)));
  check();
  answer(140, 8);
  ASSERT_TRUE(s.prefill(all.subspan(148, 1)));
  check();
  answer(149, 3);
}

void expect_promises(const Session& s, const TinyModel& tiny) {
  const CacheUse use = s.use();
  ASSERT_LE(use.peak_bytes, s.plan().budget_bytes);
  ASSERT_LE(use.held_bytes, use.peak_bytes);
  ASSERT_EQ(use.budget_bytes, s.plan().budget_bytes);
  ASSERT_EQ(use.full_bytes, s.tokens().size() * (std::size_t)tiny.n_layer * s.plan().entry_bytes);
  const auto n = (std::int64_t)s.tokens().size();
  const PolicyTraits& traits = s.policy().traits();
  std::uint64_t held = 0;
  for (int l = 0; l < tiny.n_layer; ++l) {
    std::size_t longest = 0;
    for (int h = 0; h < tiny.n_head_kv; ++h) {
      std::vector<std::int64_t> kept = s.kept(l, h);
      held += kept.size() * s.plan().entry_bytes / (std::uint64_t)tiny.n_head_kv;
      longest = std::max(longest, kept.size());
      const bool ascending = std::adjacent_find(kept.begin(), kept.end(), std::greater_equal<>()) == kept.end();
      ASSERT_TRUE(ascending || !traits.ordered);
      std::sort(kept.begin(), kept.end());
      // Where heads share, one may be left without any.
      ASSERT_GE(kept.size(), std::min(traits.sinks, (std::size_t)n));
      ASSERT_TRUE(kept.empty() ? traits.uneven_heads : kept.front() >= 0 && kept.back() < n);
      for (std::size_t i = 0; i < std::min(traits.sinks, (std::size_t)n); ++i) ASSERT_EQ(kept[i], (std::int64_t)i);
      const std::size_t window = std::min(traits.window, (std::size_t)n);
      ASSERT_GE(kept.size(), window);
      for (std::size_t i = 1; i <= window; ++i) ASSERT_EQ(kept[kept.size() - i], n - (std::int64_t)i);
    }
    ASSERT_EQ(use.entries_per_layer[(std::size_t)l], longest);
  }
  ASSERT_EQ(use.held_bytes, held);
}

std::vector<PolicySpec> specs() {
  std::vector<PolicySpec> specs = simulation::every_choice();
  for (const char* text :
       {"streaming-llm:sinks=0", "lacache:span=3,sinks=1", "cake:window=3,tau1=0.4", "cake:window=8,decay=0"}) {
    specs.push_back(PolicySpec::parse(text));
  }
  return specs;
}

TEST(Session, BudgetHoldsAtEveryStep) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 160, 11);
  const AttentionShape shape = loaded.model.facts().attention;
  for (const PolicySpec& spec : specs()) {
    const std::size_t least = spec.type->max_entries_per_layer(
        spec.settings, shape, spec.type->bounded ? spec.type->min_cache_size(spec.settings, shape) : tokens.size());
    for (const std::size_t more : {0, 3, 29}) {
      for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
        SCOPED_TRACE(spec.text() + " " + std::to_string(least + more) +
                     (mode == PrefillMode::kExact ? " exact" : " streaming"));
        SessionOptions o{.budget = {Budget::Unit::kEntries, (double)(least + more)},
                         .prefill = mode,
                         .chunk = 20,
                         .prompt_tokens = 90,
                         .new_tokens = 70};
        o.policy = spec;
        const auto s = loaded.engine.open(o);
        ASSERT_NO_FATAL_FAILURE(converse(*s, tokens, [&] { expect_promises(*s, loaded.tiny); }));
        EXPECT_EQ(s->tokens(), Tokens(tokens.begin(), tokens.begin() + 152));
        for (const float x : s->logits()) ASSERT_TRUE(std::isfinite(x));
      }
    }
  }
}

TEST(Session, BudgetHoldsForEveryCacheType) {
  Loaded loaded(wide());
  const Tokens tokens = random_tokens(loaded.tiny, 160, 11);
  for (const std::string types : {"f32,q8_0", "f16", "bf16", "q8_0", "q4_0", "q4_0,bf16"}) {
    for (const std::string policy : {"streaming-llm", "lacache", "cake:window=8"}) {
      for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
        SCOPED_TRACE(policy + " " + types + (mode == PrefillMode::kExact ? " exact" : " streaming"));
        SessionOptions o = with(policy, "30", types, mode, 90);
        o.chunk = 20;
        const auto s = loaded.engine.open(o);
        ASSERT_NO_FATAL_FAILURE(converse(*s, tokens, [&] { expect_promises(*s, loaded.tiny); }));
        for (const float x : s->logits()) ASSERT_TRUE(std::isfinite(x));
      }
    }
  }
}

// How far a type may move logits of this model: about twice what was measured. q4_0 moves them by more than would say
// anything; that it is read as it was written is for the kernels' tests.
TEST(Session, CacheTypesAnswerAsF32Does) {
  Loaded loaded(wide());
  const Tokens prompt = random_tokens(loaded.tiny, 90, 23);
  const struct {
    const char* types;
    float bound;
  } cases[] = {{"f16", 0.015f}, {"bf16", 0.1f}, {"q8_0", 0.3f}, {"q8_0,f16", 0.3f}, {"f32,bf16", 0.1f}};
  for (const char* policy : {"full", "full:positions=compacted"}) {
    const auto plain = loaded.engine.open(with(policy));
    plain->prefill(prompt);
    plain->step(prompt[0]);
    for (const auto& c : cases) {
      SCOPED_TRACE(std::string(policy) + " " + c.types);
      const auto s = loaded.engine.open(with(policy, "", c.types));
      s->prefill(prompt);
      s->step(prompt[0]);
      EXPECT_LT(distance(plain->logits(), s->logits()), c.bound);
      EXPECT_GT(distance(plain->logits(), s->logits()), 0.0f);  // it was used
    }
  }
}

TEST(Session, APolicyThatCutsOnlyAtTheEndIsRefusedWhereItsPromptDoesNotFit) {
  Loaded loaded(small());
  const std::string policy = "cake:window=4,cascade=off";
  const auto refused = [](const auto& act) {
    try {
      act();
      ADD_FAILURE() << "not refused";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), Error::Kind::kCapacity) << e.what();
      EXPECT_NE(std::string(e.what()).find("cascade=off"), std::string::npos) << e.what();
    }
  };
  refused([&] { loaded.engine.open(with(policy, "40", "f32", PrefillMode::kExact, 90)); });
  refused([&] { loaded.engine.open(with(policy, "40", "f32", PrefillMode::kStreaming, 90)); });

  // A turn that does not fit changes nothing: one that does goes on from there.
  const auto s = loaded.engine.open(with(policy, "40", "f32", PrefillMode::kExact, 30));
  s->prefill(random_tokens(loaded.tiny, 30, 12));
  refused([&] { s->prefill(random_tokens(loaded.tiny, 11, 13)); });
  EXPECT_EQ(s->kept(0, 0).size(), 30u);
  s->prefill(random_tokens(loaded.tiny, 10, 14));
  EXPECT_LE(s->use().peak_bytes, s->plan().budget_bytes);
}

TEST(Session, FiguresOfThePlanAreThoseOfTheRun) {
  for (const char* policy : {"full", "streaming-llm", "lacache", "cake:window=8"}) {
    for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
      for (const std::size_t n : {90, 700}) {
        SCOPED_TRACE(std::string(policy) + (mode == PrefillMode::kExact ? " exact " : " streaming ") +
                     std::to_string(n));
        Loaded loaded(small());  // a fresh engine: sessions share what only grows
        const SessionOptions o = with(policy, std::string(policy) == "full" ? "" : "40", "f16", mode, n, 10);
        const SessionPlan plan = loaded.engine.plan(o);
        const auto s = loaded.engine.open(o);
        const Tokens prompt = random_tokens(loaded.tiny, n, 13);
        Session* const reads[] = {s.get()};
        std::uint64_t workspace = 0, hidden = 0;
        {
          PrefillJob::State job(loaded.engine.state(), reads, prompt, {});
          while (job.advance()) {
            workspace = std::max(workspace, job.memory().workspace.bytes());
            hidden = std::max(hidden, job.memory().hidden.bytes());
          }
        }
        for (Token t = 0; t < 5; ++t) s->step(t);
        EXPECT_EQ(plan.memory.cache, s->use().budget_bytes);
        if (mode == PrefillMode::kExact) {
          EXPECT_EQ(plan.memory.layer_workspace, workspace);
        } else {
          EXPECT_GE(plan.memory.layer_workspace, workspace);
        }
        EXPECT_GE(plan.memory.hidden_states + 64, hidden);  // a line to align it
        EXPECT_GE(plan.memory.compute, loaded.engine.state().place.graph_bytes());
      }
    }
  }
}

// --- turns and ends -----------------------------------------------------------------------------------------

TEST(Session, ATurnAfterDecodeSeesWhatIsKept) {
  Loaded loaded(wide());
  const Tokens tokens = random_tokens(loaded.tiny, 60, 14);
  const std::span<const Token> all(tokens);
  for (const char* policy : {"full", "full:positions=compacted", "cake", "lacache"}) {
    for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
      SCOPED_TRACE(policy);
      const std::string budget = std::string(policy).rfind("full", 0) == 0 ? "" : "100";
      const auto whole = loaded.engine.open(with(policy, budget, "f32", mode, 60));
      const auto turns = loaded.engine.open(with(policy, budget, "f32", mode, 60));
      const auto forgetful = loaded.engine.open(with(policy, budget, "f32", mode, 60));
      whole->prefill(all);
      turns->prefill(all.subspan(0, 25));
      for (std::size_t i = 25; i < 40; ++i) turns->step(tokens[i]);
      turns->prefill(all.subspan(40));
      forgetful->prefill(all.subspan(40));
      EXPECT_EQ(turns->tokens(), tokens);
      EXPECT_LT(distance(whole->logits(), turns->logits()), 1e-4f);
      EXPECT_GT(distance(whole->logits(), forgetful->logits()), 1e-2f);  // it mattered
    }
  }
}

TEST(Session, ASessionCanBeginWithAStep) {
  Loaded loaded(wide());
  for (const char* policy : {"full", "streaming-llm", "lacache", "cake:window=4"}) {
    SCOPED_TRACE(policy);
    const std::string budget = std::string(policy) == "full" ? "" : "60";
    const auto stepped = loaded.engine.open(with(policy, budget)), fed = loaded.engine.open(with(policy, budget));
    const Token first = 270;
    ASSERT_NO_THROW(stepped->step(first));
    fed->prefill({&first, 1});
    EXPECT_LT(distance(stepped->logits(), fed->logits()), 1e-4f);
    EXPECT_EQ(stepped->kept(0, 0), std::vector<std::int64_t>{0});
  }
}

TEST(Session, CancelledPrefillReturnsFalse) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 90, 15);
  for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    const auto s = loaded.engine.open(with("streaming-llm", "30", "f16", mode, 90));
    int calls = 0;
    PrefillOptions hooks;
    hooks.progress = [&](std::size_t, std::size_t) { return ++calls < 3; };
    EXPECT_FALSE(s->prefill(prompt, hooks));
    EXPECT_EQ(calls, 3);
    const auto t = loaded.engine.open(with("cake:window=4", "30", "f16", mode, 90));
    Session* const watchers[] = {t.get()};
    calls = 0;
    EXPECT_FALSE(loaded.engine.prefill(watchers, prompt, hooks));
  }
}

TEST(Session, ProgressCountsUpToTheWholePrompt) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 90, 16);
  for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    const auto s = loaded.engine.open(with("streaming-llm", "30", "f16", mode, 90));
    std::size_t last = 0;
    PrefillOptions hooks;
    hooks.progress = [&](std::size_t done, std::size_t total) {
      EXPECT_EQ(total, 90u);
      EXPECT_GE(done, last);
      last = done;
      return true;
    };
    EXPECT_TRUE(s->prefill(prompt, hooks));
    EXPECT_EQ(last, 90u);
  }
}

TEST(Session, FullCacheRefusesTheNextToken) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 30, 17);
  const auto s = loaded.engine.open(with("full", "", "f16", PrefillMode::kExact, 30, 4));
  s->prefill(prompt);
  int taken = 0;
  const std::string message = refusal(Error::Kind::kCapacity, [&] {
    for (; taken < 10; ++taken) s->step(300);
  });
  EXPECT_GE(taken, 4);
  EXPECT_LE(taken, 5);
  EXPECT_TRUE(contains(message, "full after " + std::to_string(30 + taken) + " tokens")) << message;
  EXPECT_TRUE(contains(message, "policy full evicts nothing")) << message;
  EXPECT_EQ(s->tokens().size(), 30u + (std::size_t)taken);
}

TEST(Session, FullCacheRefusesATurnBeforeAnythingRuns) {
  Loaded loaded(small());
  const Tokens prompt = random_tokens(loaded.tiny, 60, 18);
  for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    const auto s = loaded.engine.open(with("full", "", "f16", mode, 30, 4));
    s->prefill({prompt.data(), 20});
    const Logits before = logits_of(*s);
    const std::string message = refusal(Error::Kind::kCapacity, [&] { s->prefill(prompt); });
    EXPECT_TRUE(contains(message, "20 tokens are held and 60 more do not fit")) << message;
    EXPECT_EQ(s->tokens().size(), 20u);
    EXPECT_TRUE(same_bits(before, s->logits()));
    const auto watcher = loaded.engine.open(with("full", "", "f16", mode, 30, 4));
    Session* const watchers[] = {watcher.get()};
    EXPECT_NE(refusal(Error::Kind::kCapacity, [&] { loaded.engine.prefill(watchers, prompt); }), "");
    EXPECT_EQ(watcher->tokens().size(), 0u);
  }
}

TEST(Session, PromptBeyondTrainingLengthNamesWhatWouldDo) {
  for (const int n_layer : {4, 1}) {
    SCOPED_TRACE(n_layer);
    TinyModel tiny = small();
    tiny.n_ctx_train = 128;
    tiny.n_layer = n_layer;
    Loaded loaded(tiny);
    const Tokens prompt = random_tokens(tiny, 300, 19);
    const auto refused = [&](const std::string& policy, const std::string& budget, PrefillMode mode) {
      return refusal(Error::Kind::kInput, [&] { loaded.engine.plan(with(policy, budget, "f16", mode, 300)); });
    };
    for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
      const std::string message = refused("cake:window=4", "40", mode);
      EXPECT_TRUE(contains(message, "expected at most the model's training length 128, found 300 tokens")) << message;
      EXPECT_TRUE(contains(message, "streaming-llm") && contains(message, "prefill streaming would read it"))
          << message;
    }
    const std::string message = refused("streaming-llm", "40", PrefillMode::kExact);
    EXPECT_TRUE(contains(message, "prefill streaming would read it")) << message;
    EXPECT_FALSE(contains(message, "policy")) << message;
    const auto s = loaded.engine.open(with("streaming-llm", "40", "f16", PrefillMode::kStreaming, 300));
    EXPECT_TRUE(s->prefill(prompt));
    EXPECT_EQ(s->kept(0, 0).back(), 299);
  }
}

TEST(Session, TruePositionsEndAtTheTrainingLengthAndCacheIndicesDoNot) {
  TinyModel tiny = small();
  tiny.n_ctx_train = 64;
  Loaded loaded(tiny);
  const Tokens tokens = random_tokens(tiny, 60, 20);
  const auto cake = loaded.engine.open(with("cake:window=4", "20"));
  cake->prefill(tokens);
  for (int i = 0; i < 4; ++i) cake->step(300);
  EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { cake->step(300); }), "training length 64"));
  EXPECT_EQ(cake->tokens().size(), 64u);

  const auto index = loaded.engine.open(with("streaming-llm", "20"));
  index->prefill(tokens);
  for (int i = 0; i < 30; ++i) index->step(300);
  // A further turn stands right behind what is kept, far below the training length.
  EXPECT_TRUE(index->prefill(std::span(tokens).subspan(0, 10)));
  EXPECT_EQ(index->tokens().size(), 100u);
}

}  // namespace
}  // namespace lacake
