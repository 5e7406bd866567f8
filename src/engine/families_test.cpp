// Every family and RoPE variant: logits beside libllama's however the tokens are fed, and every policy within its
// budget.

#include "engine/test_session.h"
#include "models/libllama_logits.h"

namespace lacake {
namespace {

using models::variant;
using models::Variant;

std::vector<std::string> names() {
  std::vector<std::string> list;
  for (const Variant& v : models::variants()) list.push_back(v.name);
  return list;
}

class Family : public testing::TestWithParam<std::string> {
 protected:
  Family()
      : variant_(variant(GetParam())),
        file_(variant_.model),
        calibration_(file_.path(), {.context_length = variant_.context_length}),
        model_(file_.path(), {.context_length = variant_.context_length, .calibration = calibration_.path()}),
        engine_(model_, {.threads = 1}),
        composed_(model_, {.threads = 1, .attention = "ggml"}) {}

  const Variant variant_;
  const ModelFile file_;
  const models::TinyCalibration calibration_;
  const Model model_;
  Engine engine_;
  Engine composed_;
};

// [n_vocab, n]: a prompt of `n_prompt` tokens, the others one by one.
Logits run(Engine& engine, const Tokens& tokens, std::size_t n_prompt, const std::string& policy, PrefillMode mode) {
  SessionOptions o = with(policy, "", "f32", mode, n_prompt, tokens.size() - n_prompt);
  o.chunk = 37;
  return all_logits(engine, tokens, n_prompt, o);
}

TEST_P(Family, GivesLibllamasLogitsHoweverTokensAreFed) {
  const Tokens tokens = random_tokens(variant_.model, 256, 1);
  const Logits truth = models::libllama_logits(file_, tokens);
  ASSERT_EQ(truth.size(), tokens.size() * (std::size_t)variant_.model.n_vocab);
  float largest = 0, worst = 0;
  for (const float x : truth) largest = std::max(largest, std::abs(x));
  EXPECT_GT(largest, 3.0f);
  for (const char* policy : {"full", "full:positions=compacted"}) {
    SCOPED_TRACE(policy);
    const float exact = distance(run(engine_, tokens, 256, policy, PrefillMode::kExact), truth);
    const float streaming = distance(run(engine_, tokens, 256, policy, PrefillMode::kStreaming), truth);
    const float turns = distance(run(engine_, tokens, 100, policy, PrefillMode::kExact), truth);
    const float one_by_one = distance(run(engine_, tokens, 0, policy, PrefillMode::kExact), truth);
    EXPECT_LT(exact, 1e-3f);
    EXPECT_LT(streaming, 1e-3f);
    EXPECT_LT(turns, 1e-3f);
    EXPECT_LT(one_by_one, 1e-3f);
    worst = std::max({worst, exact, streaming, turns, one_by_one});
  }
  RecordProperty("max_abs", std::to_string(worst));
  std::printf("%s: max abs %.1e\n", variant_.name.c_str(), worst);
}

TEST_P(Family, GivesThemWithAttentionComposedOfGgmlsOperations) {
  const Tokens tokens = random_tokens(variant_.model, 160, 1);
  const Logits truth = models::libllama_logits(file_, tokens);
  for (const char* policy : {"full", "full:positions=compacted"}) {
    SCOPED_TRACE(policy);
    EXPECT_LT(distance(run(composed_, tokens, 160, policy, PrefillMode::kExact), truth), 1e-3f);
    EXPECT_LT(distance(run(composed_, tokens, 160, policy, PrefillMode::kStreaming), truth), 1e-3f);
    EXPECT_LT(distance(run(composed_, tokens, 140, policy, PrefillMode::kExact), truth), 1e-3f);
  }
}

// What policies see is the same, so they keep the same: 90 tokens in chunks, then one by one. CAKE's decoding has near
// ties that a last bit decides, and what it keeps decides what it sees next (tests/golden), so it is fed a prompt only.
TEST_P(Family, EveryPolicyKeepsTheSameUnderComposedAttention) {
  const Tokens tokens = random_tokens(variant_.model, 110, 2);
  for (const PolicyType& type : policy_types()) {
    SCOPED_TRACE(type.name);
    const auto& shape = model_.facts().policy_attention();
    const std::size_t least =
        type.bounded ? type.max_entries_per_layer({}, shape, type.min_cache_size({}, shape)) : 110;
    const auto fed = [&](Engine& engine) {
      SessionOptions o = with(type.name, std::to_string(least + 20), "f32", PrefillMode::kStreaming, 90, 20);
      o.chunk = 32;
      auto s = engine.open(o);
      s->prefill({tokens.data(), 90});
      for (std::size_t i = 90; i < tokens.size() && type.name != "cake"; ++i) s->step(tokens[i]);
      return s;
    };
    const auto by_kernels = fed(engine_), composed = fed(composed_);
    EXPECT_LT(distance(logits_of(*by_kernels), logits_of(*composed)), 1e-3f);
    for (int l = 0; l < variant_.model.n_layer && type.name == "cake"; ++l) {
      for (int h = 0; h < variant_.model.n_head_kv; ++h) {
        const auto a = by_kernels->kept(l, h), b = composed->kept(l, h);
        std::size_t other = 0;
        for (const std::int64_t p : a) other += std::find(b.begin(), b.end(), p) == b.end();
        EXPECT_LE(other, 1u);
        EXPECT_LE(b.size(), a.size() + 1);
      }
    }
  }
}

TEST_P(Family, RunsUnderEveryPolicyWithinItsBudget) {
  const Tokens tokens = random_tokens(variant_.model, 120, 2);
  const ModelFacts& facts = model_.facts();
  for (const PolicyType& type : policy_types()) {
    for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
      SCOPED_TRACE(type.name + (mode == PrefillMode::kExact ? " exact" : " streaming"));
      const std::size_t least = type.bounded
                                    ? type.max_entries_per_layer({}, facts.policy_attention(),
                                                                 type.min_cache_size({}, facts.policy_attention()))
                                    : 120;
      SessionOptions o = with(type.name, std::to_string(least + 3), "f16", mode, 90, 30);
      o.chunk = 32;
      const auto s = engine_.open(o);
      s->prefill({tokens.data(), 90});
      for (std::size_t i = 90; i < tokens.size(); ++i) {
        s->step(tokens[i]);
        const CacheUse use = s->use();
        ASSERT_LE(use.peak_bytes, use.budget_bytes);
        ASSERT_LE(use.budget_bytes, (least + 3) * s->plan().entry_bytes * (std::size_t)facts.attention.n_layer);
      }
      for (const float x : s->logits()) ASSERT_TRUE(std::isfinite(x));
    }
  }
}

TEST(ComposedAttention, ReadsAndWritesEveryCacheTypeAsTheKernelsDo) {
  Loaded loaded(wide());
  Engine composed(loaded.model, {.threads = 1, .attention = "ggml"});
  // A difference of 1e-5 before an entry is quantised is a whole step of it after, now and then: both in f32, and
  // tokens by which no last bit does that (of seeds, about one in six does).
  Engine kernels(loaded.model, {.threads = 1, .attention = "f32"});
  const Tokens tokens = random_tokens(loaded.tiny, 110, 4);
  // Keys in q4_0 are rounded with regard to queries by the kernels alone.
  for (const char* types : {"f32", "f16", "bf16", "q8_0", "q5_0,q4_0", "q8_0,f16"}) {
    for (const char* policy : {"full", "full:positions=compacted"}) {
      SCOPED_TRACE(std::string(types) + " " + policy);
      const auto last = [&](Engine& engine) {
        SessionOptions o = with(policy, "", types, PrefillMode::kStreaming, 90, 20);
        o.chunk = 32;
        const auto s = engine.open(o);
        s->prefill({tokens.data(), 90});
        for (std::size_t i = 90; i < tokens.size(); ++i) s->step(tokens[i]);
        return logits_of(*s);
      };
      // A last bit before bf16 is half a percent after it.
      EXPECT_LT(distance(last(kernels), last(composed)), std::string(types) == "bf16" ? 5e-3f : 1e-3f);
    }
  }
}

TEST(ComposedAttention, GivesABatchWhatEachSessionGetsAlone) {
  Loaded loaded(wide());
  // Here with two threads, and only here: ggml's spin while they wait for each other at every node, so where something
  // else has a core of theirs, long runs take minutes.
  Engine composed(loaded.model, {.threads = 2, .attention = "ggml"});
  const Tokens tokens = random_tokens(loaded.tiny, 40, 4);
  const auto opened = [&](const char* policy, std::size_t n) {
    auto s = composed.open(with(policy));
    s->prefill({tokens.data(), n});
    return s;
  };
  const auto a = opened("full", 20), b = opened("full:positions=compacted", 33);
  const auto a_alone = opened("full", 20), b_alone = opened("full:positions=compacted", 33);
  const std::vector<Engine::Next> batch = {{b.get(), tokens[33]}, {a.get(), tokens[20]}};
  composed.step(batch);
  a_alone->step(tokens[20]);
  b_alone->step(tokens[33]);
  EXPECT_LT(distance(logits_of(*a), logits_of(*a_alone)), 1e-5f);
  EXPECT_LT(distance(logits_of(*b), logits_of(*b_alone)), 1e-5f);
}

INSTANTIATE_TEST_SUITE_P(, Family, testing::ValuesIn(names()), [](const auto& i) { return i.param; });

// --- sliding windows -------------------------------------------------------------------------------------------------

// Layers 2 and 5 of 7 have full attention.
TinyModel sliding() {
  TinyModel m = variant("gemma3").model;
  m.n_layer = 7;
  m.slides = {true, true, false, true, true, false, true};
  m.window = 16;
  return m;
}

std::vector<std::size_t> held(const Session& s) { return s.use().entries_per_layer; }

TEST(SlidingWindow, LayersHoldTheirWindowAndTheOthersShareTheRest) {
  Loaded loaded(sliding());
  const Tokens tokens = random_tokens(loaded.tiny, 300, 3);
  // 7 * 40 entries: 5 * 16 slide, the other 200 are for two layers.
  const auto s = loaded.engine.open(with("streaming-llm", "40", "f16", PrefillMode::kExact, 250, 50));
  EXPECT_EQ(s->plan().n_sliding_layers, 5u);
  EXPECT_EQ(s->plan().sliding_entries, 16u);
  EXPECT_EQ(s->plan().full_layer_entries, 100u);
  s->prefill({tokens.data(), 250});
  for (std::size_t i = 250; i < 300; ++i) s->step(tokens[i]);
  const auto lengths = held(*s);
  for (const std::size_t l : {0, 1, 3, 4, 6}) EXPECT_EQ(lengths[l], 16u);
  for (const std::size_t l : {2, 5}) EXPECT_GE(lengths[l], 98u);
  std::vector<std::int64_t> kept = s->kept(3, 0);
  std::sort(kept.begin(), kept.end());
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(kept[i], (std::int64_t)(284 + i));
}

TEST(SlidingWindow, ABudgetBelowTheWindowIsSharedEvenly) {
  Loaded loaded(sliding());
  const auto s = loaded.engine.open(with("streaming-llm", "12", "f16", PrefillMode::kStreaming, 60, 5));
  EXPECT_EQ(s->plan().sliding_entries, 12u);
  EXPECT_EQ(s->plan().full_layer_entries, 12u);
}

TEST(SlidingWindow, ABatchGivesEachSessionWhatItGetsAlone) {
  Loaded loaded(sliding());
  const Tokens tokens = random_tokens(loaded.tiny, 80, 4);
  const auto open = [&](const char* policy) {
    auto s = loaded.engine.open(with(policy, "40", "f16", PrefillMode::kExact, 60, 20));
    s->prefill({tokens.data(), 60});
    return s;
  };
  const auto a = open("streaming-llm"), b = open("cake"), a_alone = open("streaming-llm"), b_alone = open("cake");
  for (std::size_t i = 60; i < 80; ++i) {
    const Engine::Next both[] = {{a.get(), tokens[i]}, {b.get(), tokens[i]}};
    loaded.engine.step(both);
    a_alone->step(tokens[i]);
    b_alone->step(tokens[i]);
    ASSERT_TRUE(same_bits(a->logits(), a_alone->logits()));
    ASSERT_TRUE(same_bits(b->logits(), b_alone->logits()));
  }
}

}  // namespace
}  // namespace lacake
