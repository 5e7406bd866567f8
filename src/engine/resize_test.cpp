// A session's budget changes while it lives.

#include <gtest/gtest.h>

#include <random>

#include "engine/session_state.h"
#include "engine/test_session.h"

namespace lacake {
namespace {

class Resize : public testing::TestWithParam<const char*> {};

SessionOptions options_of(const char* policy, const std::string& budget, PrefillMode mode = PrefillMode::kExact) {
  SessionOptions o = with(policy, budget, "f16", mode, 120, 200);
  o.chunk = 40;
  return o;
}

TEST_P(Resize, KeepsToEachBudgetFromTheCallOn) {
  TinyModel tiny = small();
  tiny.n_ctx_train = 1024;
  Loaded loaded(tiny);
  const Tokens tokens = random_tokens(tiny, 400, 3);
  for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    SCOPED_TRACE(mode == PrefillMode::kExact ? "exact" : "streaming");
    const auto s = loaded.engine.open(options_of(GetParam(), "80", mode));
    s->prefill(std::span(tokens).first(120));
    std::size_t at = 120;
    for (const char* budget : {"60", "45", "100", "52", "51", "90", "45"}) {
      SCOPED_TRACE(budget);
      s->resize(Budget::parse(budget));
      const std::uint64_t bytes = std::stoul(budget) * s->plan().entry_bytes * (std::uint64_t)tiny.n_layer;
      ASSERT_EQ(s->plan().budget_bytes, bytes);
      ASSERT_LE(s->use().held_bytes, bytes);
      ASSERT_EQ(s->state().cache().arena().bytes(), bytes);
      for (int i = 0; i < 12; ++i) {
        s->step(tokens[at++]);
        ASSERT_LE(s->use().held_bytes, bytes);
      }
      s->prefill(std::span(tokens).subspan(at, 20));
      at += 20;
      ASSERT_LE(s->use().held_bytes, bytes);
      for (const float x : s->logits()) ASSERT_TRUE(std::isfinite(x));
    }
  }
}

TEST_P(Resize, ToTheSameBudgetChangesNothing) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 100, 4);
  const auto a = loaded.engine.open(options_of(GetParam(), "60")), b = loaded.engine.open(options_of(GetParam(), "60"));
  for (Session* s : {a.get(), b.get()}) s->prefill(std::span(tokens).first(80));
  b->resize(Budget::parse("60"));
  for (std::size_t i = 80; i < 100; ++i) {
    a->step(tokens[i]);
    b->step(tokens[i]);
    ASSERT_TRUE(same_bits(a->logits(), b->logits()));
  }
}

TEST_P(Resize, WhatCannotWorkIsRefusedAndChangesNothing) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 100, 5);
  const auto s = loaded.engine.open(options_of(GetParam(), "60"));
  s->prefill(std::span(tokens).first(80));
  const Logits before = logits_of(*s);
  const auto kept = s->kept(0, 0);
  EXPECT_NE(refusal(Error::Kind::kUsage, [&] { s->resize(Budget::parse("1")); }), "");
  EXPECT_EQ(s->status(), SessionStatus::kReady);
  EXPECT_EQ(s->kept(0, 0), kept);
  EXPECT_TRUE(same_bits(before, s->logits()));
  s->step(tokens[80]);
}

std::string name_of(const testing::TestParamInfo<const char*>& which) {
  std::string name = which.param;
  for (char& c : name) c = std::isalnum((unsigned char)c) ? c : '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Policies, Resize,
                         testing::Values("streaming-llm", "lacache", "cake:window=8", "snapkv:window=8",
                                         "snapkv:window=8,heads=adaptive", "h2o", "tova", "keydiff",
                                         "pyramidkv:window=8", "trellis", "random"),
                         name_of);

TEST(ResizeOfFull, GrowsAndShrinksToWhatItHolds) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 100, 6);
  const auto s = loaded.engine.open(with("full", "60", "f16", PrefillMode::kExact, 40, 10));
  s->prefill(std::span(tokens).first(40));
  s->resize(Budget::parse("120"));
  s->prefill(std::span(tokens).first(60));
  EXPECT_EQ(s->use().held_bytes, 100 * s->plan().entry_bytes * 4);
  EXPECT_NE(refusal(Error::Kind::kCapacity, [&] { s->resize(Budget::parse("90")); }), "");
  EXPECT_EQ(s->use().held_bytes, 100 * s->plan().entry_bytes * 4);
  s->step(1);
}

TEST(ResizeOfSlidingLayers, TheyHoldWhatTheNewBudgetLeavesThem) {
  TinyModel tiny = models::variant("gemma3").model;
  tiny.window = 32;
  Loaded loaded(tiny);
  const Tokens tokens = random_tokens(tiny, 200, 7);
  const auto s = loaded.engine.open(options_of("streaming-llm", "60"));
  s->prefill(std::span(tokens).first(120));
  ASSERT_GT(s->plan().n_sliding_layers, 0u);
  for (const char* budget : {"20", "80", "30"}) {
    s->resize(Budget::parse(budget));
    EXPECT_LE(s->use().held_bytes, s->plan().budget_bytes);
    for (int i = 0; i < 40; ++i) s->step(tokens[(std::size_t)i]);
    EXPECT_LE(s->use().held_bytes, s->plan().budget_bytes);
  }
}

// Sixty-four sessions over one reservation, opened, fed, resized and closed in random order.
TEST(KvMemory, ManySessionsNeverPassTheReservation) {
  Loaded sized(small());
  const std::uint64_t entry = sized.engine.plan(with("streaming-llm", "20", "f16")).entry_bytes * 4;
  constexpr std::uint64_t kEntries = 1200;
  Engine engine(sized.model, {.threads = 1, .kv_memory = kEntries * entry});
  const Tokens tokens = random_tokens(sized.tiny, 100, 8);
  const char* const policies[] = {"streaming-llm", "cake:window=4", "trellis", "lacache"};
  std::mt19937 random(9);
  std::vector<std::unique_ptr<Session>> sessions;
  std::size_t refused = 0, most = 0;
  for (int step = 0; step < 2000; ++step) {
    const auto action = random() % 6;
    const std::string budget = std::to_string(20 + random() % 60);
    const auto fits = [&](std::uint64_t given_back) {
      const std::uint64_t bytes = KvPool::taken(std::stoul(budget) * entry);
      return bytes <= engine.kv_memory().free + KvPool::taken(given_back);
    };
    if (action < 2 && sessions.size() < 64) {
      const bool can = fits(0);
      try {
        sessions.push_back(engine.open(with(policies[random() % 4], budget, "f16", PrefillMode::kExact, 30, 50)));
        ASSERT_TRUE(can);
      } catch (const Error& e) {
        ASSERT_FALSE(can) << e.what();
        ASSERT_EQ(e.kind(), Error::Kind::kCapacity);
        ++refused;
      }
    } else if (action == 2 && sessions.size() > 12) {
      sessions.erase(sessions.begin() + (std::ptrdiff_t)(random() % sessions.size()));
    } else if (action == 3 && !sessions.empty()) {
      Session& s = *sessions[random() % sessions.size()];
      const bool can = fits(s.plan().budget_bytes);
      try {
        s.resize(Budget::parse(budget));
        ASSERT_TRUE(can);
      } catch (const Error& e) {
        ASSERT_FALSE(can) << e.what();
        ++refused;
      }
    } else if (!sessions.empty()) {
      Session& s = *sessions[random() % sessions.size()];
      if (s.tokens().empty()) {
        s.prefill(std::span(tokens).first(30 + random() % 60));
      } else if (s.tokens().size() < 400) {
        s.step(tokens[random() % tokens.size()]);
      }
    }
    const KvMemoryUse use = engine.kv_memory();
    ASSERT_EQ(use.reserved, kEntries * entry);
    ASSERT_EQ(use.leased + use.free, use.reserved);
    ASSERT_LE(use.held, use.leased);
    ASSERT_EQ(use.n_sessions, sessions.size());
    most = std::max(most, sessions.size());
  }
  EXPECT_GT(refused, 50u);
  EXPECT_GT(most, 20u);
  sessions.clear();
  EXPECT_EQ(engine.kv_memory().free, kEntries * entry);
  EXPECT_EQ(engine.kv_memory().held, 0u);
}

// Rows that the pool moved are the rows that they were.
TEST(KvMemory, MovedSessionsGoOnBitForBit) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 100, 10);
  const SessionOptions o = with("cake:window=4", "50", "f16", PrefillMode::kExact, 80, 100);
  const std::uint64_t bytes = loaded.engine.plan(o).budget_bytes;
  Engine pooled(loaded.model, {.threads = 1, .kv_memory = 4 * bytes});
  const auto alone = loaded.engine.open(o);
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(pooled.open(o));
  Session& last = *sessions[3];
  for (Session* s : {alone.get(), &last}) s->prefill(std::span(tokens).first(80));
  sessions[0].reset();
  sessions[2].reset();
  // Two gaps of one budget each: a session of two fits only once the last one has moved.
  SessionOptions twice = o;
  twice.budget = Budget::parse("100");
  sessions[0] = pooled.open(twice);
  EXPECT_EQ(pooled.kv_memory().free, 0u);
  for (std::size_t i = 80; i < 100; ++i) {
    alone->step(tokens[i]);
    last.step(tokens[i]);
    ASSERT_TRUE(same_bits(alone->logits(), last.logits())) << i;
  }
}

}  // namespace
}  // namespace lacake
