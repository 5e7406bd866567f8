#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lacake/error.h"
#include "lacake/sampler.h"
#include "text/stop_strings.h"

namespace lacake {
namespace {

// --- stop strings --------------------------------------------------------------------------------------------------

struct Stopped {
  std::string text;
  std::string which;
  bool operator==(const Stopped&) const = default;
};

Stopped streamed(const std::vector<std::string>& stops, std::string_view text, std::size_t chunk) {
  StopStrings matcher(stops);
  Stopped result;
  for (std::size_t at = 0; at < text.size(); at += chunk) result.text += matcher.push(text.substr(at, chunk));
  result.text += matcher.flush();
  if (matcher.found()) result.which = matcher.which();
  return result;
}

TEST(StopStrings, FindsTheFirstHoweverTheTextIsSplit) {
  struct Case {
    std::vector<std::string> stops;
    const char* text;
    Stopped expected;
  };
  const Case cases[] = {
      {{"END"}, "all of it", {"all of it", ""}},
      {{"END"}, "before END after", {"before ", "END"}},
      {{"END"}, "EENDx", {"E", "END"}},
      {{"aab"}, "aaab", {"a", "aab"}},
      {{"ababc"}, "abababc!", {"ab", "ababc"}},
      {{"\n\n", "User:"}, "one\ntwo\n\nUser:", {"one\ntwo", "\n\n"}},
      {{"abc", "bc"}, "xabc", {"x", "abc"}},    // the longer one began earlier
      {{"abcd", "bc"}, "xabce", {"xa", "bc"}},  // complete first
      {{"abcd", "bc"}, "xabcd", {"xa", "bc"}},
      {{""}, "text", {"text", ""}},
      {{}, "text", {"text", ""}},
      {{"é!"}, "aé!b", {"a", "é!"}},
      {{"END"}, "the EN", {"the EN", ""}},
  };
  for (const Case& c : cases) {
    for (std::size_t chunk = 1; chunk <= std::string(c.text).size(); ++chunk) {
      EXPECT_EQ(streamed(c.stops, c.text, chunk), c.expected) << c.text << " by " << chunk;
    }
  }
}

TEST(StopStrings, HoldsBackOnlyWhatMayBecomeOne) {
  StopStrings matcher({"STOP"});
  EXPECT_EQ(matcher.push("Say ST"), "Say ");
  EXPECT_EQ(matcher.push("A"), "STA");
  EXPECT_EQ(matcher.push("STO"), "");
  EXPECT_FALSE(matcher.found());
  EXPECT_EQ(matcher.push("P more"), "");
  EXPECT_TRUE(matcher.found());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.flush(), "");
  matcher.reset();
  EXPECT_EQ(matcher.push("more"), "more");
}

// --- log-probabilities ---------------------------------------------------------------------------------------------

TEST(LogProbabilities, AreThoseOfTheSoftmax) {
  const std::vector<float> logits = {1, 2, 3, 2};
  const double sum = std::exp(-2.0) + 2 * std::exp(-1.0) + 1;
  const LogProbabilities all = log_probabilities(logits, 0, 3);
  EXPECT_EQ(all.token.token, 0);
  EXPECT_NEAR(all.token.logprob, -2 - std::log(sum), 1e-12);
  ASSERT_EQ(all.best.size(), 3U);
  EXPECT_EQ(all.best[0].token, 2);
  EXPECT_NEAR(all.best[0].logprob, -std::log(sum), 1e-12);
  EXPECT_EQ(all.best[1].token, 1);  // of two that are equal the smaller id
  EXPECT_EQ(all.best[2].token, 3);
  EXPECT_EQ(log_probabilities(logits, 1, 9).best.size(), 4U);
  EXPECT_TRUE(log_probabilities(logits, 1, 0).best.empty());
}

TEST(LogProbabilities, DoNotOverflowNorAddUpErrors) {
  std::vector<float> logits(200'000, 0.0F);
  EXPECT_NEAR(log_probabilities(logits, 7, 1).token.logprob, -std::log(200'000.0), 1e-9);
  logits[7] = 3e38F;
  EXPECT_EQ(log_probabilities(logits, 7, 1).token.logprob, 0);
  EXPECT_EQ(log_probabilities(logits, 7, 1).best[0].token, 7);
}

TEST(LogProbabilities, TakeWhatIsNoNumberForImpossible) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float never = -std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {nan, 1, never, 1, nan};
  const LogProbabilities all = log_probabilities(logits, 0, 4);
  EXPECT_EQ(all.token.logprob, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(all.best[0].token, 1);
  EXPECT_NEAR(all.best[0].logprob, -std::log(2.0), 1e-12);
  EXPECT_EQ(all.best[1].token, 3);
  EXPECT_EQ(all.best[2].token, 0);
  const std::vector<float> none = {nan, nan};
  EXPECT_EQ(log_probabilities(none, 1, 1).token.logprob, -std::numeric_limits<double>::infinity());
}

// --- what users write ----------------------------------------------------------------------------------------------

std::string message_of(const auto& call) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::kUsage);
    return e.what();
  }
  return "accepted";
}

TEST(Samplers, AreNamedAsLlamaCppNamesThem) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(parse_samplers("penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"),
            SamplerOptions{}.samplers);
  EXPECT_EQ(parse_sampler_letters("edskypmxt"), SamplerOptions{}.samplers);
  EXPECT_EQ(parse_samplers("Top-K,nucleus;temp;typ;minp"), (Names{"top_k", "top_p", "temperature", "typ_p", "min_p"}));
  EXPECT_EQ(parse_samplers(""), Names{});
  EXPECT_EQ(message_of([] { parse_samplers("top_k;top_q"); }),
            "samplers: expected some of penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature, "
            "infill, found \"top_q\"; did you mean top_k?");
  EXPECT_EQ(message_of([] { parse_sampler_letters("kq"); }),
            "sampling_seq: expected letters of edskypmxti, found \"kq\"");
}

TEST(LogitBias, IsATokenOrATextAndANumber) {
  EXPECT_EQ(parse_logit_bias("15043+1").token, 15043);
  EXPECT_EQ(parse_logit_bias("15043+1").bias, 1);
  EXPECT_EQ(parse_logit_bias("15043-1.5").bias, -1.5F);
  EXPECT_EQ(parse_logit_bias("7-inf").bias, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(parse_logit_bias("\"a+b\"-2").text, "a+b");
  EXPECT_EQ(parse_logit_bias("\"a+b\"-2").bias, -2);
  for (const char* text :
       {"", "7", "+1", "-1", "7+", "7+x", "7+1x", "x+1", "\"\"+1", "\"a", "\"a\"", "7+inf", "7+-1"}) {
    EXPECT_TRUE(message_of([&] { parse_logit_bias(text); }).starts_with("logit_bias: expected TOKEN+BIAS")) << text;
  }
}

TEST(AnswerSeeds, FollowFromOneAndDiffer) {
  const std::vector<std::uint32_t> seeds = answer_seeds(7, 100);
  EXPECT_EQ(seeds, answer_seeds(7, 100));
  EXPECT_EQ(seeds[0], 7U);
  EXPECT_EQ(answer_seeds(7, 3), std::vector<std::uint32_t>(seeds.begin(), seeds.begin() + 3));
  std::vector<std::uint32_t> sorted = seeds;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end());
  EXPECT_NE(answer_seeds(8, 2)[1], seeds[1]);
  EXPECT_NE(answer_seeds(SamplerOptions::kRandomSeed, 1)[0], SamplerOptions::kRandomSeed);
}

}  // namespace
}  // namespace lacake
