// A few tokens on the real model in F32: in seconds what the suites of the labels golden-real and parity-real do, so
// that every sanitizer sees the real shapes. One pass for several policies, a batch of them, and libllama beside the
// full cache.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "golden/golden_files.h"
#include "lacake/engine.h"
#include "parity/libllama.h"
#include "tools/divergence.h"
#include "tools/model_files.h"

namespace lacake {
namespace {

constexpr std::size_t kPrompt = 80;
constexpr std::size_t kAnswer = 3;
constexpr std::size_t kTokens = kPrompt + kAnswer;
constexpr const char* kPolicies[] = {"full", "lacache", "cake"};

std::vector<Token> tokens() {
  const golden::Archive file(wikitext_file());
  const auto ids = file.i32("ids").first(kTokens);
  return {ids.begin(), ids.end()};
}

std::unique_ptr<Session> open(Engine& engine, const std::string& policy) {
  SessionOptions options{.policy = PolicySpec::parse(policy),
                         .types = CacheTypes::parse("f32"),
                         .prompt_tokens = kPrompt,
                         .new_tokens = kAnswer};
  if (policy != "full") options.budget = Budget::parse("72");
  return engine.open(options);
}

// The logits from the prompt's last token on: [1 + kAnswer][n_vocab].
using Steps = std::vector<std::vector<float>>;

void add_logits(Steps& steps, const Session& session) {
  steps.emplace_back(session.logits().begin(), session.logits().end());
}

TEST(ShortText, UnderThePoliciesOfABatchIsThatOfEachAlone) {
  const std::vector<Token> text = tokens();
  const std::span<const Token> prompt = std::span(text).first(kPrompt), answer = std::span(text).last(kAnswer);
  const Model model(f32_model());
  Engine engine(model, {.threads = 2});

  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<Session*> all;
  for (const char* policy : kPolicies) all.push_back(sessions.emplace_back(open(engine, policy)).get());
  ASSERT_TRUE(engine.prefill(all, prompt));
  std::vector<Steps> together(all.size());
  for (std::size_t p = 0; p < all.size(); ++p) add_logits(together[p], *all[p]);
  for (const Token token : answer) {
    std::vector<Engine::Next> batch;
    for (Session* session : all) batch.push_back({session, token});
    engine.step(batch);
    for (std::size_t p = 0; p < all.size(); ++p) add_logits(together[p], *all[p]);
  }

  for (std::size_t p = 0; p < all.size(); ++p) {
    const auto alone = open(engine, kPolicies[p]);
    ASSERT_TRUE(alone->prefill(prompt));
    Steps apart;
    add_logits(apart, *alone);
    for (const Token token : answer) alone->step(token), add_logits(apart, *alone);
    EXPECT_EQ(apart, together[p]) << kPolicies[p];
  }
  EXPECT_NE(together[0], together[1]) << "nothing was evicted";
}

TEST(ShortText, WithAFullCacheGivesLibllamasLogits) {
  const std::vector<Token> text = tokens();
  Steps theirs;
  Libllama(f32_model()).run(text, {.cache = GGML_TYPE_F32}, [&](std::size_t, std::span<const float> logits) {
    theirs.emplace_back(logits.begin(), logits.end());
  });
  ASSERT_EQ(theirs.size(), kTokens);

  const Model model(f32_model());
  Engine engine(model, {.threads = 2});
  const auto session = open(engine, "full");
  Divergence d;
  session->prefill(std::span(text).first(kPrompt),
                   {.all_logits = [&](std::size_t i, std::span<const float> logits) { d.add(theirs[i], logits); }});
  for (std::size_t i = kPrompt; i < kTokens; ++i) {
    session->step(text[i]);
    d.add(theirs[i], session->logits());
  }
  EXPECT_EQ(d.n(), kTokens);
  EXPECT_LT(d.max_abs(), 1e-3) << d.text();
  EXPECT_LT(d.mean_kl(), 1e-8) << d.text();
}

}  // namespace
}  // namespace lacake
