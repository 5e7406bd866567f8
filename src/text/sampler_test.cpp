#include "lacake/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "lacake/error.h"
#include "text/vocabulary.h"

namespace lacake {
namespace {

const Vocabulary& smollm2() {
  static const Vocabulary vocabulary(LACAKE_TEST_MODEL);
  return vocabulary;
}

SamplerOptions greedy() {
  SamplerOptions options;
  options.temp = 0;
  return options;
}

SamplerOptions seeded(std::uint32_t seed) {
  SamplerOptions options;
  options.seed = seed;
  return options;
}

std::vector<float> random_logits(unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> logits(static_cast<std::size_t>(smollm2().n_tokens()));
  for (float& logit : logits) logit = static_cast<float>(random() % 8192) / 1024.0F;
  return logits;
}

// Flat but for these tokens, the first the likeliest.
std::vector<float> favouring(std::initializer_list<std::int32_t> tokens) {
  std::vector<float> logits(static_cast<std::size_t>(smollm2().n_tokens()), 0.0F);
  float logit = 10;
  for (const std::int32_t token : tokens) logits[static_cast<std::size_t>(token)] = logit--;
  return logits;
}

std::vector<std::int32_t> draw(Sampler& sampler, int n) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(sampler.sample(random_logits(static_cast<unsigned>(i))));
  return tokens;
}

std::int32_t id(const char* text) {
  const auto ids = smollm2().tokenize(text);
  EXPECT_EQ(ids.size(), 1U) << text;
  return ids.front();
}

TEST(Sampler, GreedyTakesTheLargestLogit) {
  Sampler sampler(smollm2(), greedy());
  for (unsigned seed = 0; seed < 4; ++seed) {
    const auto logits = random_logits(seed);
    EXPECT_EQ(sampler.sample(logits), std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
}

TEST(Sampler, DrawsNoTokenThatTheVocabularyLacks) {
  Sampler sampler(smollm2(), greedy());
  auto logits = favouring({900});
  logits.insert(logits.end(), 64, 100.0F);
  EXPECT_EQ(sampler.sample(logits), 900);
}

TEST(Sampler, SameSeedSameTokens) {
  Sampler a(smollm2(), seeded(7));
  Sampler b(smollm2(), seeded(7));
  Sampler other(smollm2(), seeded(8));
  const auto tokens = draw(a, 12);
  EXPECT_EQ(draw(b, 12), tokens);
  EXPECT_NE(draw(other, 12), tokens);
  a.reset();
  EXPECT_EQ(draw(a, 12), tokens);
}

TEST(Sampler, ARandomSeedCanBeUsedAgain) {
  Sampler random(smollm2(), SamplerOptions{});
  Sampler again(smollm2(), seeded(random.seed()));
  EXPECT_EQ(draw(again, 12), draw(random, 12));
}

TEST(Sampler, TopKLeavesOnlyTheLikeliest) {
  SamplerOptions options = seeded(1);
  options.temp = 100;
  options.top_k = 3;
  options.min_p = 0;
  options.top_p = 1;
  Sampler sampler(smollm2(), options);
  std::vector<std::int32_t> seen;
  for (int i = 0; i < 50; ++i) seen.push_back(sampler.sample(favouring({900, 5, 777})));
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  EXPECT_EQ(seen, (std::vector<std::int32_t>{5, 777, 900}));
}

TEST(Sampler, RepeatPenaltyCountsAnswerAndPromptAndForgets) {
  SamplerOptions options = greedy();
  options.repeat_penalty = 1.5F;
  options.repeat_last_n = 2;
  const auto logits = favouring({900, 5, 777});  // 10, 9, 8; penalised 6.7, 6, 5.3
  Sampler sampler(smollm2(), options);
  EXPECT_EQ(sampler.sample(logits), 900);
  EXPECT_EQ(sampler.sample(logits), 5);
  EXPECT_EQ(sampler.sample(logits), 777);
  EXPECT_EQ(sampler.sample(logits), 900);
  sampler.reset();
  sampler.observe(std::vector<std::int32_t>{777, 5, 900});
  EXPECT_EQ(sampler.sample(logits), 777);
}

TEST(Sampler, GrammarKeepsTheAnswerInItsLanguage) {
  for (SamplerOptions options : {greedy(), seeded(3)}) {
    options.grammar = R"(root ::= ("yes" | "no") "!"?)";
    Sampler sampler(smollm2(), options);
    std::string answer;
    for (unsigned step = 0; step < 8; ++step) {
      const std::int32_t token = sampler.sample(random_logits(step));
      if (smollm2().is_end(token)) break;
      answer += smollm2().piece(token);
    }
    EXPECT_TRUE(answer == "yes" || answer == "no" || answer == "yes!" || answer == "no!") << answer;
  }
}

TEST(Sampler, GrammarTakesTheLikeliestOfWhatItAllows) {
  SamplerOptions options = greedy();
  options.grammar = R"(root ::= "a" | "b")";
  Sampler sampler(smollm2(), options);
  const auto logits = favouring({900, id("b"), id("a")});
  EXPECT_EQ(sampler.sample(logits), id("b"));
  EXPECT_TRUE(smollm2().is_end(sampler.sample(logits)));
  sampler.reset();
  sampler.observe(std::vector{id("b")});  // a prompt is no part of the answer
  EXPECT_EQ(sampler.sample(logits), id("b"));
}

TEST(Sampler, AcceptRefusesWhatTheGrammarForbids) {
  SamplerOptions options = greedy();
  options.grammar = R"(root ::= "a" "b")";
  Sampler sampler(smollm2(), options);
  EXPECT_THROW(sampler.accept(id("b")), Error);
  EXPECT_THROW(sampler.accept(*smollm2().eos()), Error);
  sampler.accept(id("a"));
  EXPECT_EQ(sampler.sample(favouring({900, id("a"), id("b")})), id("b"));
}

TEST(Sampler, NamesTheOptionThatCannotBe) {
  const auto message = [](const std::function<void(SamplerOptions&)>& set) -> std::string {
    SamplerOptions options;
    set(options);
    try {
      const Sampler sampler(smollm2(), options);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), Error::Kind::kUsage);
      return e.what();
    }
    return "accepted";
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(message([&](auto& o) { o.temp = nan; }), "--temp: expected a finite number, found nan");
  EXPECT_EQ(message([](auto& o) { o.top_p = 1.5F; }), "--top-p: expected 0 to 1, found 1.5");
  EXPECT_EQ(message([](auto& o) { o.min_p = -1; }), "--min-p: expected 0 to 1, found -1");
  EXPECT_EQ(message([](auto& o) { o.repeat_penalty = 0; }), "--repeat-penalty: expected a number above 0, found 0");
  EXPECT_EQ(message([](auto& o) { o.repeat_last_n = -1; }), "--repeat-last-n: expected 0 or more, found -1");
  EXPECT_EQ(message([](auto& o) { o.grammar = "answer ::= \"a\"\n"; }),
            "grammar: expected GBNF with a rule `root`, found: grammar does not contain a 'root' symbol");
}

}  // namespace
}  // namespace lacake
