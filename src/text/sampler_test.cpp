#include "lacake/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "lacake/error.h"
#include "text/answer_format.h"
#include "text/make_sampler.h"
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
  std::vector<float> logits((std::size_t)smollm2().n_tokens());
  for (float& logit : logits) logit = (float)(random() % 8192) / 1024.0F;
  return logits;
}

// Flat but for these tokens, the first the likeliest.
std::vector<float> favouring(std::initializer_list<std::int32_t> tokens) {
  std::vector<float> logits((std::size_t)smollm2().n_tokens(), 0.0F);
  float logit = 10;
  for (const std::int32_t token : tokens) logits[(std::size_t)token] = logit--;
  return logits;
}

std::vector<std::int32_t> draw(Sampler& sampler, int n) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(sampler.sample(random_logits((unsigned)i)));
  return tokens;
}

std::int32_t id(const char* text) {
  const auto ids = smollm2().tokenize(text);
  EXPECT_EQ(ids.size(), 1U) << text;
  return ids.front();
}

TEST(Sampler, GreedyTakesTheLargestLogit) {
  Sampler sampler = make_sampler(smollm2(), greedy());
  for (unsigned seed = 0; seed < 4; ++seed) {
    const auto logits = random_logits(seed);
    EXPECT_EQ(sampler.sample(logits), std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
}

TEST(Sampler, DrawsNoTokenThatTheVocabularyLacks) {
  Sampler sampler = make_sampler(smollm2(), greedy());
  auto logits = favouring({900});
  logits.insert(logits.end(), 64, 100.0F);
  EXPECT_EQ(sampler.sample(logits), 900);
}

TEST(Sampler, SameSeedSameTokens) {
  Sampler a = make_sampler(smollm2(), seeded(7));
  Sampler b = make_sampler(smollm2(), seeded(7));
  Sampler other = make_sampler(smollm2(), seeded(8));
  const auto tokens = draw(a, 12);
  EXPECT_EQ(draw(b, 12), tokens);
  EXPECT_NE(draw(other, 12), tokens);
  a.reset();
  EXPECT_EQ(draw(a, 12), tokens);
}

TEST(Sampler, ARandomSeedCanBeUsedAgain) {
  Sampler random = make_sampler(smollm2(), SamplerOptions{});
  Sampler again = make_sampler(smollm2(), seeded(random.seed()));
  EXPECT_EQ(draw(again, 12), draw(random, 12));
}

TEST(Sampler, TopKLeavesOnlyTheLikeliest) {
  SamplerOptions options = seeded(1);
  options.temp = 100;
  options.top_k = 3;
  options.min_p = 0;
  options.top_p = 1;
  Sampler sampler = make_sampler(smollm2(), options);
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
  Sampler sampler = make_sampler(smollm2(), options);
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
    Sampler sampler = make_sampler(smollm2(), options);
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
  Sampler sampler = make_sampler(smollm2(), options);
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
  Sampler sampler = make_sampler(smollm2(), options);
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
      const Sampler sampler = make_sampler(smollm2(), options);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), Error::Kind::kUsage);
      return e.what();
    }
    return "accepted";
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(message([&](auto& o) { o.temp = nan; }), "temp: expected a finite number, found nan");
  EXPECT_EQ(message([](auto& o) { o.top_p = 1.5F; }), "top_p: expected 0 to 1, found 1.5");
  EXPECT_EQ(message([](auto& o) { o.min_p = -1; }), "min_p: expected 0 to 1, found -1");
  EXPECT_EQ(message([](auto& o) { o.repeat_penalty = 0; }), "repeat_penalty: expected a number above 0, found 0");
  EXPECT_EQ(message([](auto& o) { o.repeat_last_n = -1; }), "repeat_last_n: expected 0 or more, found -1");
  EXPECT_EQ(message([](auto& o) { o.dry_penalty_last_n = 1 << 21; }),
            "dry_penalty_last_n: expected 1048576 at most, found 2097152");
  EXPECT_EQ(message([](auto& o) { o.dry_base = 0.5F; }), "dry_base: expected 1 or more, found 0.5");
  EXPECT_EQ(message([](auto& o) { o.mirostat = 3; }), "mirostat: expected 0, 1 or 2, found 3");
  EXPECT_EQ(message([](auto& o) { o.samplers = {"top_q"}; }), "samplers: expected names of samplers, found top_q");
  EXPECT_EQ(message([](auto& o) {
              o.logit_bias = {{"", -1, 1}};
            }),
            "logit_bias: expected a token from 0 to 49151, found -1");
  EXPECT_EQ(message([](auto& o) { o.grammar = "answer ::= \"a\"\n"; }),
            "grammar: expected GBNF with a rule named root, found none in line 2");
  EXPECT_EQ(message([](auto& o) { o.grammar = "root ::= root \"a\" | \"b\""; }),
            "grammar: expected GBNF that libllama reads, found unsupported grammar, left recursion detected for "
            "nonterminal at index 0");
  EXPECT_EQ(message([](auto& o) { o.grammar = "root ::= \"a\"", o.json_schema = "{}"; }),
            "grammar: expected either a grammar or a json_schema, found both");
  EXPECT_EQ(message([](auto& o) { o.grammar = "root ::= \"a\"", o.grammar_lazy = true; }),
            "grammar_triggers: expected some for a lazy grammar, found none");
}

// --- samplers that change which tokens can be drawn ----------------------------------------------------------------

std::vector<std::int32_t> drawn_from(const SamplerOptions& options, const std::vector<float>& logits, int n = 60) {
  Sampler sampler = make_sampler(smollm2(), options);
  std::vector<std::int32_t> seen;
  for (int i = 0; i < n; ++i) seen.push_back(sampler.sample(logits));
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  return seen;
}

// Likelihoods 64, 24, 9 and 3 %, nothing else possible.
std::vector<float> four() {
  std::vector<float> logits((std::size_t)smollm2().n_tokens(), -100.0F);
  logits[900] = 10, logits[5] = 9, logits[777] = 8, logits[66] = 7;
  return logits;
}

// Nothing but what a test sets; the vocabulary's flat rest out of reach.
SamplerOptions alone(std::uint32_t seed) {
  SamplerOptions options = seeded(seed);
  options.temp = 1;
  options.top_k = 4;
  options.top_p = 1;
  options.min_p = 0;
  return options;
}

using Tokens = std::vector<std::int32_t>;

TEST(Sampler, XtcTakesTheLikeliestAway) {
  const auto logits = favouring({900, 5, 777, 66});  // 10, 9, 8, 7: 64 %, 24 %, 9 %, 3 %
  SamplerOptions options = alone(1);
  options.xtc_probability = 1;
  options.xtc_threshold = 0.2F;
  EXPECT_EQ(drawn_from(options, logits), (Tokens{5, 66, 777}));
  options.xtc_threshold = 0.6F;  // above 0.5: never
  EXPECT_EQ(drawn_from(options, logits), (Tokens{5, 66, 777, 900}));
}

TEST(Sampler, TopNSigmaKeepsLogitsNearTheLargest) {
  SamplerOptions options = alone(1);
  options.top_k = 0;
  options.samplers = {"top_n_sigma", "top_k", "temperature"};
  options.top_n_sigma = 10;  // the vocabulary's standard deviation here is about 0.077
  EXPECT_EQ(drawn_from(options, favouring({900})), (Tokens{900}));
  auto near = favouring({900});
  near[5] = 9.9F;
  EXPECT_EQ(drawn_from(options, near), (Tokens{5, 900}));
}

TEST(Sampler, TypicalDropsWhatIsTooLikely) {
  // 1/2 and four of 1/8: entropy 2 bits, the eighths (3 bits) as far from it as the half (1 bit); a little less than
  // a half makes it the least typical.
  std::vector<float> logits((std::size_t)smollm2().n_tokens(), -100.0F);
  logits[900] = std::log(0.6F);
  for (const std::size_t token : {5, 66, 777, 888}) logits[token] = std::log(0.1F);
  SamplerOptions options = alone(1);
  options.top_k = 0;
  options.typical_p = 0.6F;
  options.samplers = {"typ_p", "temperature"};
  EXPECT_EQ(drawn_from(options, logits, 200), (Tokens{900}));  // 0.74 bits against a mean of 1.77; the tenths 3.32
  for (const std::size_t token : {5, 66, 777, 888}) logits[token] = std::log(0.2F);
  logits[900] = std::log(0.001F);
  options.typical_p = 0.9F;
  EXPECT_EQ(drawn_from(options, logits, 200), (Tokens{5, 66, 777, 888}));
}

TEST(Sampler, DynamicTemperatureFollowsTheEntropy) {
  SamplerOptions options = alone(3);
  options.temp = 1;
  options.dynatemp_range = 0.99F;  // nearly certain logits: temperature near 0.01
  const auto logits = favouring({900, 5, 777, 66});
  auto certain = logits;
  certain[900] = 20;
  EXPECT_EQ(drawn_from(options, certain, 400), (Tokens{900}));
  EXPECT_EQ(drawn_from(options, logits, 400).size(), 4U);
}

TEST(Sampler, PresenceAndFrequencyPenaltiesAreTakenFromLogits) {
  SamplerOptions options = greedy();
  options.presence_penalty = 1.5F;
  const auto logits = favouring({900, 5});  // 10 and 9
  Sampler once = make_sampler(smollm2(), options);
  EXPECT_EQ(once.sample(logits), 900);
  EXPECT_EQ(once.sample(logits), 5);    // 8.5 against 9
  EXPECT_EQ(once.sample(logits), 900);  // 8.5 against 7.5, however often
  options.presence_penalty = 0;
  options.frequency_penalty = 0.7F;
  Sampler often = make_sampler(smollm2(), options);
  EXPECT_EQ(often.sample(logits), 900);
  EXPECT_EQ(often.sample(logits), 900);  // 9.3
  EXPECT_EQ(often.sample(logits), 5);    // 8.6 against 9
}

TEST(Sampler, DryForbidsToGoOnWithARepetition) {
  SamplerOptions options = greedy();
  options.dry_multiplier = 10;
  options.dry_allowed_length = 2;
  const Tokens prompt = {100, 200, 300, 400, 100, 200, 300};  // 400 would repeat four tokens
  const auto logits = favouring({400, 5});
  Sampler sampler = make_sampler(smollm2(), options);
  sampler.observe(prompt);
  EXPECT_EQ(sampler.sample(logits), 5);
  options.dry_penalty_last_n = 3;  // does not reach back to the first time
  Sampler forgetful = make_sampler(smollm2(), options);
  forgetful.observe(prompt);
  EXPECT_EQ(forgetful.sample(logits), 400);
}

TEST(Sampler, DryDoesNotReachOverABreaker) {
  SamplerOptions options = greedy();
  options.dry_multiplier = 10;
  const std::int32_t colon = id(":");
  const Tokens prompt = {100, colon, 300, 400, 100, colon, 300};  // behind the colon only 300 is repeated
  const auto logits = favouring({400, 5});
  Sampler sampler = make_sampler(smollm2(), options);
  sampler.observe(prompt);
  EXPECT_EQ(sampler.sample(logits), 400);
  options.dry_sequence_breakers = {};
  Sampler unbroken = make_sampler(smollm2(), options);
  unbroken.observe(prompt);
  EXPECT_EQ(unbroken.sample(logits), 5);
}

TEST(Sampler, MirostatIgnoresTruncation) {
  const auto logits = favouring({900, 5, 777, 66});
  for (const int version : {1, 2}) {
    SamplerOptions options = alone(5);
    options.top_k = 1;
    EXPECT_EQ(drawn_from(options, logits), (Tokens{900}));
    options.mirostat = version;
    options.mirostat_tau = 5;
    EXPECT_GT(drawn_from(options, logits).size(), 1U) << version;
    options.mirostat_tau = 0.01F;
    options.mirostat_eta = 1;
    Sampler calm = make_sampler(smollm2(), options);
    for (int i = 0; i < 50; ++i) calm.sample(logits);
    Tokens settled;
    for (int i = 0; i < 20; ++i) settled.push_back(calm.sample(logits));
    EXPECT_EQ(settled, Tokens(20, 900)) << version;
  }
}

TEST(Sampler, OrderOfSamplersMatters) {
  // After top_k=2 the two make up everything, so top_p=0.7 keeps one of 73 % and 27 %; before it, both of 64 and 24 %.
  const auto logits = four();
  SamplerOptions options = alone(1);
  options.top_k = 2;
  options.top_p = 0.7F;
  options.samplers = {"top_k", "top_p", "temperature"};
  EXPECT_EQ(drawn_from(options, logits), (Tokens{900}));
  options.samplers = {"top_p", "top_k", "temperature"};
  EXPECT_EQ(drawn_from(options, logits, 200), (Tokens{5, 900}));
  options.samplers = {"top_p", "temperature"};  // what is not there has no effect
  options.top_k = 1;
  EXPECT_EQ(drawn_from(options, logits, 200), (Tokens{5, 900}));
}

TEST(Sampler, MinKeepLeavesSoManyAtLeast) {
  const auto logits = favouring({900, 5, 777, 66});
  SamplerOptions options = alone(1);
  options.top_p = 0.1F;
  EXPECT_EQ(drawn_from(options, logits), (Tokens{900}));
  options.min_keep = 2;
  EXPECT_EQ(drawn_from(options, logits, 200), (Tokens{5, 900}));
}

TEST(Sampler, LogitBiasMovesATokenOrATextAndForbids) {
  SamplerOptions options = greedy();
  const auto logits = favouring({900, id("a"), 5});
  options.logit_bias = {{"", 900, -std::numeric_limits<float>::infinity()}};
  EXPECT_EQ(make_sampler(smollm2(), options).sample(logits), id("a"));
  options.logit_bias = {{"a", -1, 5}};
  EXPECT_EQ(make_sampler(smollm2(), options).sample(logits), id("a"));
}

TEST(Sampler, IgnoresEndTokensIfAsked) {
  SamplerOptions options = greedy();
  const auto logits = favouring({*smollm2().eos(), 900});
  EXPECT_EQ(make_sampler(smollm2(), options).sample(logits), *smollm2().eos());
  options.ignore_eos = true;
  EXPECT_EQ(make_sampler(smollm2(), options).sample(logits), 900);
}

TEST(Sampler, ACloneGoesOnAsTheOriginalWould) {
  for (const int mirostat : {0, 1, 2}) {
    SamplerOptions options = seeded(11);
    options.mirostat = mirostat;
    options.xtc_probability = 0.5F;
    options.repeat_penalty = 1.3F;
    options.dry_multiplier = 1;
    options.grammar = "root ::= [^\\x00]*";
    Sampler sampler = make_sampler(smollm2(), options);
    draw(sampler, 8);
    Sampler copy = sampler.clone();
    const auto rest = draw(sampler, 12);
    EXPECT_EQ(draw(copy, 12), rest) << mirostat;
    copy.reset();
    Sampler fresh = make_sampler(smollm2(), options);
    EXPECT_EQ(draw(copy, 12), draw(fresh, 12)) << mirostat;
  }
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  Sampler sampler = make_sampler(smollm2(), greedy());
  auto logits = favouring({900});
  logits[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(sampler.sample(logits), Error);
}

TEST(Sampler, ALazyGrammarHoldsFromItsTrigger) {
  SamplerOptions options = greedy();
  options.grammar = R"(root ::= "[" "yes" "]")";
  options.grammar_lazy = true;
  options.grammar_triggers = {{GrammarTrigger::Kind::kWord, "[", -1}};
  Sampler sampler = make_sampler(smollm2(), options);
  const auto logits = favouring({900, id("["), id("yes")});
  EXPECT_EQ(sampler.sample(logits), 900);
  sampler.accept(id("["));
  EXPECT_EQ(smollm2().piece(sampler.sample(logits)), "yes");
  options.grammar_triggers = {{GrammarTrigger::Kind::kToken, "", id("[")}};
  Sampler by_token = make_sampler(smollm2(), options);
  EXPECT_EQ(by_token.sample(logits), 900);
  by_token.accept(id("["));
  EXPECT_EQ(smollm2().piece(by_token.sample(logits)), "yes");
}

TEST(Sampler, AGrammarGoesOnBehindWhatThePromptHolds) {
  SamplerOptions options = greedy();
  options.grammar = R"(root ::= "ab" "c")";
  options.grammar_begun = "ab";
  Sampler sampler = make_sampler(smollm2(), options);
  EXPECT_EQ(smollm2().piece(sampler.sample(favouring({900, id("a")}))), "c");
  options.grammar_begun = "x";
  EXPECT_THROW(make_sampler(smollm2(), options), Error);
}

TEST(Sampler, FollowsAJsonSchemaWhereThisBuildCan) {
  SamplerOptions options = seeded(1);
  options.json_schema = R"({"type":"object","properties":{"n":{"enum":[1,2]}},"required":["n"]})";
  if (!LlamaChat::in_this_build()) {
    EXPECT_THROW(make_sampler(smollm2(), options), Error);
    return;
  }
  Sampler sampler = make_sampler(smollm2(), options);
  std::string answer;
  for (unsigned step = 0; step < 40; ++step) {
    const std::int32_t token = sampler.sample(random_logits(step));
    if (smollm2().is_end(token)) break;
    answer += smollm2().piece(token);
  }
  std::erase_if(answer, [](unsigned char c) { return std::isspace(c) != 0; });
  EXPECT_TRUE(answer == R"({"n":1})" || answer == R"({"n":2})") << answer;
}

TEST(Sampler, RefusesWhatIsNoJsonSchema) {
  if (!LlamaChat::in_this_build()) GTEST_SKIP() << "built without llama.cpp's sources";
  const std::string deep = R"({"a":)" + std::string(100000, '[');
  for (const std::string& schema : {std::string("{"), std::string("not json"), std::string(R"({"type":"elephant"})"),
                                    std::string(R"({"$ref":"#/nowhere"})"), deep}) {
    try {
      json_schema_grammar(schema);
      ADD_FAILURE() << schema.substr(0, 40);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), Error::Kind::kUsage);
      EXPECT_TRUE(std::string(e.what()).starts_with("json_schema: expected ")) << e.what();
    }
  }
}

TEST(Sampler, AMistakeInAGrammarPrintsNothing) {
  testing::internal::CaptureStderr();
  for (const char* grammar : {"root ::= (", "root ::= \"a", "root", "root ::= a", "root ::= [a-", "root ::= *",
                              "root ::= \"a\"{3,1}", "root ::= \"\\q\"", "\xff ::= a", "root ::= <nothing here>",
                              "root ::= \"a\"{2001}", "root ::= (\"b\"{0,60}){60}"}) {
    SamplerOptions options = greedy();
    options.grammar = grammar;
    EXPECT_THROW(make_sampler(smollm2(), options), Error) << grammar;
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace lacake
