#include "eval/needle.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/test_session.h"
#include "eval/python_random.h"

namespace lacake::eval {
namespace {

// python3 -c "import random; r = random.Random(SEED); print([r.randint(1, 99999) for _ in range(3)])"
TEST(PythonRandom, DrawsWhatPythonDraws) {
  const auto three = [](std::uint64_t seed) {
    PythonRandom r(seed);
    std::vector<std::int64_t> drawn;
    for (int i = 0; i < 3; ++i) drawn.push_back(r.randint(1, 99999));
    return drawn;
  };
  using Drawn = std::vector<std::int64_t>;
  EXPECT_EQ(three(0), (Drawn{50495, 99347, 55126}));
  EXPECT_EQ(three(1), (Drawn{17612, 74607, 8272}));
  EXPECT_EQ(three(1234567890123), (Drawn{97073, 26472, 81653}));
}

class NeedleSamples : public testing::Test {
 protected:
  Loaded loaded_{small()};
};

TEST_F(NeedleSamples, OfThePasskeyAreTheOfficialOnes) {
  const auto samples = passkey_samples(loaded_.model, {.lengths = {1024, 2048}, .seeds = 2});
  ASSERT_EQ(samples.size(), 2u * 11 * 2);
  // 3.75 * 1024 characters are 3 whole kibi-characters.
  const Sample& second = samples[2 + 1];
  EXPECT_EQ(second.tags, (nlohmann::json{{"length", 1024}, {"depth", 10}}));
  EXPECT_EQ(second.references, std::vector<std::string>{std::to_string(PythonRandom(1).randint(1, 99999))});
  const std::size_t key = second.context.find("\nThe pass key is ");
  EXPECT_EQ(key, second.context.find('\n') + 1 + 307);
  EXPECT_EQ(second.score(" " + second.references[0] + ". It"), 1);
  EXPECT_EQ(second.score("12"), 0);
  EXPECT_THROW(passkey_samples(loaded_.model, {.lengths = {273}}), Error);
}

TEST_F(NeedleSamples, HaveKeysOfTheFormAskedForAsWholeWords) {
  const auto key = [&](const char* form, std::uint64_t seed) {
    return passkey_samples(loaded_.model,
                           {.lengths = {512}, .seeds = 1, .first_seed = seed, .key = KeyForm::parse(form)})[0]
        .references.at(0);
  };
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(key("digits:2", seed).size(), 2u);
    EXPECT_EQ(key("digits:12", seed).size(), 12u);
    for (const std::size_t n : {1u, 2u, 5u}) {
      EXPECT_EQ(key_tokens(loaded_.model, key(fmt::format("tokens:{}", n).c_str(), seed)), n);
    }
    const std::string words = key("words:2", seed);
    EXPECT_EQ(std::count(words.begin(), words.end(), ' '), 1) << words;
  }
  const Sample s = passkey_samples(loaded_.model, {.lengths = {512}, .key = KeyForm::parse("digits:2")})[0];
  const std::string& two = s.references[0];
  EXPECT_EQ(s.score(" " + two + ". It"), 1);
  EXPECT_EQ(s.score(" " + two + "3"), 0);
  EXPECT_EQ(s.score(" 3" + two), 0);
  for (const char* form : {"digits", "digits:0", "digits:2x", "tokens:99", "letters:2", ":2"}) {
    EXPECT_THROW(KeyForm::parse(form), Error) << form;
  }
  EXPECT_EQ(KeyForm::parse("words:3").text(), "words:3");
}

TEST_F(NeedleSamples, OfAHaystackAskAboutEachOfItsFactsWhereTheyAreAskedApart) {
  std::string hay;
  for (int i = 0; i < 300; ++i) hay += "The crow sat. ";
  const auto samples = haystack_samples(loaded_.model, hay, {.lengths = {800}, .seeds = 2, .questions = 5});
  ASSERT_EQ(samples.size(), 2u * 5);
  for (std::size_t q = 0; q < 5; ++q) {
    const Sample& s = samples[q];
    EXPECT_EQ(s.context, samples[0].context);
    EXPECT_EQ(s.text, samples[0].text);
    EXPECT_EQ(s.number, q + 1);
    EXPECT_EQ(s.tags.at("depth"), 25 * q);
    ASSERT_EQ(s.references.size(), 1u);
    EXPECT_NE(s.context.find(s.references[0]), std::string::npos);
    if (q > 0) {
      EXPECT_GT(s.context.find(s.references[0]), s.context.find(samples[q - 1].references[0]));
    }
  }
  EXPECT_NE(samples[5].text, samples[0].text);
}

TEST_F(NeedleSamples, OfAHaystackHaveEveryCodeOnceInOrderAtSentenceEnds) {
  std::string hay;
  for (int i = 0; i < 300; ++i) hay += "The crow sat. ";
  const auto samples = haystack_samples(loaded_.model, hay, {.lengths = {600}, .depths = 3, .seeds = 1, .needles = 3});
  ASSERT_EQ(samples.size(), 3u);
  for (const Sample& s : samples) {
    std::size_t at = 0;
    ASSERT_EQ(s.references.size(), 3u);
    for (const std::string& code : s.references) {
      at = s.context.find(code, at);
      ASSERT_NE(at, std::string::npos);
      EXPECT_EQ(s.context.find(code, at + 1), std::string::npos);
    }
    EXPECT_EQ(s.context.find("The access"), s.context.find(" The access") + 1);
    EXPECT_NEAR(s.score(s.references[0] + " " + s.references[2]), 2.0 / 3, 1e-12);
    EXPECT_LE(loaded_.model.tokenize(s.context + s.question, false, true).size(), 900u);
  }
  EXPECT_LT(samples[0].context.find(samples[0].references[0]), samples[1].context.find(samples[1].references[0]));
  EXPECT_THROW(haystack_samples(loaded_.model, "short.", {.lengths = {600}}), Error);
}

}  // namespace
}  // namespace lacake::eval
