#include "engine/plan.h"

#include <gtest/gtest.h>

#include <regex>
#include <string>

#include "engine/test_session.h"
#include "lacake/error.h"

namespace lacake {
namespace {

constexpr int kLayers = 6;

// An engine over a tiny model: 6 layers, an f16 entry of 2 heads x (8 + 8) x 2 bytes = 64 bytes.
class Plan : public testing::Test {
 protected:
  static TinyModel tiny() {
    return {.n_layer = kLayers, .n_embd = 16, .n_head = 4, .n_head_kv = 2, .d_k = 8, .d_v = 8, .n_ff = 32};
  }
  static AttentionShape shape() { return {kLayers, 4, 2}; }

  static SessionOptions options(const std::string& policy, const std::string& budget, std::size_t prompt = 0,
                                std::size_t answer = 0) {
    return {.policy = PolicySpec::parse(policy),
            .budget = budget.empty() ? Budget{} : Budget::parse(budget),
            .prompt_tokens = prompt,
            .new_tokens = answer};
  }

  SessionPlan plan(const SessionOptions& o) const { return engine_.plan(o); }

  std::string refusal(const SessionOptions& o, Error::Kind kind) const {
    try {
      engine_.plan(o);
      ADD_FAILURE() << o.policy.text() << " with " << o.budget.text() << " was planned";
      return "";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), kind) << e.what();
      return e.what();
    }
  }

  ModelFile file_{tiny()};
  Model model_{file_.path()};
  mutable Engine engine_{model_, {.threads = 1}};
};

TEST_F(Plan, TakesTheLargestCacheSizeThatFitsAndNotOneMore) {
  for (const char* text : {"streaming-llm", "lacache", "lacache:span=2,overlap=1", "cake", "cake:window=4"}) {
    const PolicySpec spec = PolicySpec::parse(text);
    const std::size_t least = spec.type->min_cache_size(spec.settings, shape());
    for (std::size_t entries = spec.type->max_entries_per_layer(spec.settings, shape(), least); entries < 300;
         entries += 7) {
      const std::size_t c = plan(options(text, std::to_string(entries))).cache_size;
      EXPECT_LE(spec.type->max_entries_per_layer(spec.settings, shape(), c), entries) << text;
      EXPECT_GT(spec.type->max_entries_per_layer(spec.settings, shape(), c + 1), entries) << text;
    }
  }
}

TEST_F(Plan, ABudgetBelowTheLeastSaysTheLeast) {
  for (const char* text : {"streaming-llm:sinks=8", "lacache", "cake:window=16"}) {
    const PolicySpec spec = PolicySpec::parse(text);
    const std::size_t least =
        spec.type->max_entries_per_layer(spec.settings, shape(), spec.type->min_cache_size(spec.settings, shape()));
    const std::string message = refusal(options(text, std::to_string(least - 1)), Error::Kind::kUsage);
    EXPECT_TRUE(contains(message, "expected at least " + std::to_string(least) + " entries a layer")) << message;
    EXPECT_TRUE(message.ends_with("found " + std::to_string(least - 1))) << message;
    EXPECT_EQ(plan(options(text, std::to_string(least))).cache_size, spec.type->min_cache_size(spec.settings, shape()));
  }
}

TEST_F(Plan, ABoundedPolicyWithoutABudgetIsRefused) {
  EXPECT_EQ(refusal(options("cake", ""), Error::Kind::kUsage),
            "policy cake: expected a budget (kv_budget 1024, 3.2% or 256MiB), found none");
}

TEST_F(Plan, FullBelowPromptAndAnswerSaysWhatFits) {
  const std::string message = refusal(options("full", "120", 100, 50), Error::Kind::kCapacity);
  EXPECT_TRUE(contains(message, "expected 151 entries a layer") &&
              contains(message, "a prompt of 100 and an answer of 50 tokens"))
      << message;
  EXPECT_TRUE(contains(message, "found 120;")) << message;
  std::smatch found;
  ASSERT_TRUE(std::regex_search(message, found, std::regex("\\(predict (\\d+)\\)"))) << message;
  const std::size_t answer = std::stoul(found[1]);
  EXPECT_NO_THROW(plan(options("full", "120", 100, answer)));
  EXPECT_THROW(plan(options("full", "120", 100, answer + 1)), Error);
  EXPECT_FALSE(contains(refusal(options("full", "80", 100, 50), Error::Kind::kCapacity), "(predict"));
}

TEST_F(Plan, FullWithoutABudgetHoldsPromptAndAnswer) {
  const SessionPlan p = plan(options("full", "", 100, 50));
  EXPECT_EQ(p.entry_bytes, 64u);
  EXPECT_EQ(p.cache_size, 150u);
  EXPECT_EQ(p.budget_bytes, 151u * kLayers * 64);
  EXPECT_EQ(p.memory.cache, p.budget_bytes);
}

TEST_F(Plan, WhatTheMachineDoesNotHaveIsRefusedSayingWhatFits) {
  for (const std::string budget : {"900TiB", "999999999999"}) {
    const std::string message = refusal(options("streaming-llm", budget, 100, 50), Error::Kind::kCapacity);
    std::smatch found;
    ASSERT_TRUE(std::regex_search(message, found, std::regex("at most kv_budget (\\d+MiB) \\((\\d+) entries")))
        << message;
    EXPECT_NO_THROW(Budget::parse(found[1].str())) << message;
  }
}

TEST_F(Plan, SizesThatWouldOverflowAreRefused) {
  // The second makes bytes of 64 x 6 an entry wrap to next to nothing.
  for (const char* policy : {"streaming-llm", "lacache", "cake"}) {
    for (const std::size_t size : {std::size_t{1} << 53, (std::size_t)(UINT64_MAX / (64 * kLayers) + 1)}) {
      SessionOptions o = options(policy, "");
      o.policy.cache_size = size;
      EXPECT_THROW(plan(o), Error) << policy << " " << size;
    }
  }
  SessionOptions full = options("full", "", 10);
  for (const std::size_t answer : {UINT64_MAX / (64 * kLayers) - 10, UINT64_MAX / 2}) {
    full.new_tokens = answer;
    EXPECT_THROW(plan(full), Error) << answer;
  }
}

TEST_F(Plan, AShareRefersToThePrompt) {
  EXPECT_EQ(plan(options("streaming-llm", "10%", 1000)).budget_bytes, 100u * kLayers * 64);
  EXPECT_EQ(plan(options("streaming-llm", "10%", 1000)).cache_size, 99u);
  EXPECT_TRUE(contains(refusal(options("streaming-llm", "10%", 0), Error::Kind::kUsage), ", found 0"));
}

TEST_F(Plan, SettingsThatFollowFromAShareAreASessionsFromItsBeginningOn) {
  const auto text = [&](const Session& session) { return session.options().policy.text(); };
  const auto third = engine_.open(options("lacache", "40%", 300));
  EXPECT_EQ(text(*third), PolicySpec::parse("lacache:span=2").text());
  // Another budget, or another session made of it, changes nothing.
  third->resize(Budget::parse("50%"));
  EXPECT_EQ(text(*third), PolicySpec::parse("lacache:span=2").text());
  third->step(0);
  EXPECT_EQ(text(*engine_.fork(*third)), text(*third));
  const auto stem = third->stem();
  EXPECT_EQ(text(*engine_.open(*stem)), text(*third));
  EXPECT_EQ(text(*engine_.open(options("lacache", "100"))), "lacache");
  EXPECT_EQ(text(*engine_.open(options("lacache:span=1", "40%", 300))), PolicySpec::parse("lacache:span=1").text());
  SessionOptions said = options("lacache", "100");
  said.budget_share = 0.4;
  EXPECT_EQ(text(*engine_.open(said)), text(*third));
  EXPECT_EQ(text(*engine_.open(options("lacache:pinned=3", "40%", 300))),
            PolicySpec::parse("lacache:pinned=3,span=2").text());
}

TEST_F(Plan, BytesAreRoundedDownToWholeEntries) {
  const SessionPlan p = plan(options("streaming-llm", "100000B"));
  EXPECT_EQ(p.budget_bytes, 100000u / 64 * 64);
  EXPECT_EQ(p.cache_size, 100000u / 64 / kLayers - 1);
}

TEST_F(Plan, ACacheSizeIsTakenAsGiven) {
  const SessionPlan p = plan(options("cake:cache_size=100", ""));
  EXPECT_EQ(p.cache_size, 100u);
  EXPECT_EQ(p.budget_bytes, (100u + 32 + 1) * kLayers * 64);
  EXPECT_EQ(plan(options("cake:cache_size=100", "200")).budget_bytes, 200u * kLayers * 64);
  EXPECT_TRUE(contains(refusal(options("cake:cache_size=100", "132"), Error::Kind::kUsage),
                       "cache_size=100: expected kv_budget for 133 entries a layer, found 132, which holds 132"));
  EXPECT_TRUE(
      contains(refusal(options("cake:cache_size=32", ""), Error::Kind::kUsage), "expected at least 33, found 32"));
}

TEST_F(Plan, TypesChangeWhatAnEntryTakes) {
  SessionOptions o = options("streaming-llm", "100");
  o.types = CacheTypes::parse("f32,f16");
  EXPECT_EQ(plan(o).entry_bytes, 2u * (8 * 4 + 8 * 2));
  EXPECT_EQ(o.types.text(), "f32,f16");
  EXPECT_EQ(CacheTypes::parse("f32").text(), "f32");
  for (const char* text : {"", "f8", "f16,", ",f16", "f16,f16,f16", "F16"}) {
    EXPECT_THROW(CacheTypes::parse(text), Error) << text;
  }
}

TEST_F(Plan, TypesInBlocksNeedAHeadSizeOfWholeBlocks) {
  SessionOptions o = options("streaming-llm", "100");
  o.types = CacheTypes::parse("f16,q8_0");
  EXPECT_TRUE(contains(refusal(o, Error::Kind::kUsage),
                       "kv_type q8_0: expected a head size that is a multiple of 32, found 8 for V"));
  o.types = CacheTypes::parse("q4_0,bf16");
  EXPECT_TRUE(contains(refusal(o, Error::Kind::kUsage),
                       "kv_type q4_0: expected a head size that is a multiple of 32, found 8 for K"));

  const ModelFile file({.n_layer = 2, .n_embd = 64, .n_head = 4, .n_head_kv = 2, .d_k = 32, .d_v = 32});
  const Model model(file.path());
  const Engine engine(model, {.threads = 1});
  const auto entry_bytes = [&](const char* types) {
    o.types = CacheTypes::parse(types);
    return engine.plan(o).entry_bytes;
  };
  EXPECT_EQ(entry_bytes("q8_0"), 2u * (34 + 34));  // heads; a block of 32 numbers and its scale
  EXPECT_EQ(entry_bytes("q4_0,bf16"), 2u * (18 + 64));
}

TEST_F(Plan, AChunkIsAnEighthOfTheBudgetAndAtLeast32) {
  SessionOptions o = options("streaming-llm", "1000", 1500);
  o.prefill = PrefillMode::kStreaming;
  EXPECT_EQ(plan(o).chunk, 125u);
  o.budget = Budget::parse("100");
  EXPECT_EQ(plan(o).chunk, 32u);
  o.chunk = 77;
  EXPECT_EQ(plan(o).chunk, 77u);
  o.prefill = PrefillMode::kExact;
  EXPECT_EQ(plan(o).chunk, 1500u);
}

// Positions of a chunk follow those of the cache: together they must stay where the model was trained.
TEST_F(Plan, CacheIndicesStayWithinTheTrainingLength) {
  for (const std::size_t chunk : {0, 32, 500}) {
    SessionOptions o = options("streaming-llm", "100MiB", 50000);
    o.prefill = PrefillMode::kStreaming;
    o.chunk = chunk;
    const SessionPlan p = plan(o);
    EXPECT_LE(p.cache_size + p.chunk, 2048u) << "chunk " << chunk;
  }
}

}  // namespace
}  // namespace lacake
