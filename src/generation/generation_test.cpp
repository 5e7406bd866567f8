#include "lacake/generation.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "generation/test_generation.h"
#include "text/utf8.h"

namespace lacake {
namespace {

constexpr std::size_t kPrompt = 60;

SessionOptions keeping_all() { return with("full", "", "f32", PrefillMode::kExact, kPrompt, 60); }

Answer answer(Loaded& loaded, const SessionOptions& session, const GenerationOptions& options,
              const GenerationHooks& hooks = {}) {
  const auto opened = loaded.engine.open(session);
  return generate(loaded.model, loaded.engine, *opened, random_prompt(loaded, kPrompt), options, hooks);
}

TEST(Generation, ChoosesWhatThePlainestLoopChooses) {
  Loaded loaded(small());
  for (const char* policy : {"full", "streaming-llm", "lacache"}) {
    for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
      SCOPED_TRACE(policy);
      const bool full = std::string(policy) == "full";
      const SessionOptions options = with(policy, full ? "" : "24", "f32", mode, kPrompt, 60);
      const Answer a = answer(loaded, options, greedy(20));
      EXPECT_EQ(a.tokens, plain_answer(loaded, options, random_prompt(loaded, kPrompt).tokens, 20));
      EXPECT_EQ(a.finish, Finish::kLength);
      EXPECT_EQ(a.limit, LengthLimit::kAnswer);
    }
  }
}

TEST(Generation, FeedsAllButTheLastToken) {
  Loaded loaded(small());
  const auto session = loaded.engine.open(keeping_all());
  const Answer a = generate(loaded.model, loaded.engine, *session, random_prompt(loaded, kPrompt), greedy(5));
  ASSERT_EQ(a.tokens.size(), 5U);
  EXPECT_EQ(session->tokens().size(), kPrompt + 4);
  EXPECT_TRUE(std::equal(a.tokens.begin(), a.tokens.end() - 1, session->tokens().begin() + kPrompt));
}

TEST(Generation, GivesOutWholeCharactersOnly) {
  Loaded loaded(small());
  GenerationOptions options = greedy(200);
  options.sampling.temp = 1.5F;
  options.sampling.seed = 4;
  // Letters and the bytes of two- and three-byte characters, right and wrong ones.
  for (Token token = kEndOfText + 1; token < kFirstByte + 256; ++token) {
    const bool part = token >= kFirstByte + 0x80 && token < kFirstByte + 0xE8;
    options.sampling.logit_bias.push_back({.token = token, .bias = part ? 6.0F : -INFINITY});
  }
  std::string joined;
  const Answer a = answer(loaded, with("streaming-llm", "40"), options, {.on_text = [&](std::size_t, auto text) {
                            EXPECT_FALSE(invalid_utf8_offset(text)) << text;
                            joined += text;
                          }});
  EXPECT_EQ(joined, a.text);
  Utf8Stream whole;
  const std::string bytes = text_of(loaded.model, a.tokens);
  EXPECT_TRUE(invalid_utf8_offset(bytes));  // or nothing was tested
  const std::string expected = whole.push(bytes);
  EXPECT_EQ(a.text, expected + whole.flush());
}

TEST(Generation, EndsInFrontOfAStopString) {
  Loaded loaded(small());
  const std::string all = answer(loaded, keeping_all(), greedy(40)).text;
  for (const std::size_t length : {1, 3, 7}) {
    GenerationOptions options = greedy(40);
    const std::string stop = all.substr(12, length);
    options.stop = {"never there", stop};
    std::string joined;
    const Answer a =
        answer(loaded, keeping_all(), options, {.on_text = [&](std::size_t, auto text) { joined += text; }});
    EXPECT_EQ(a.text, all.substr(0, all.find(stop)));
    EXPECT_EQ(joined, a.text);  // no part of the stop string was shown
    EXPECT_EQ(a.finish, Finish::kStop);
    EXPECT_EQ(a.stop, stop);
  }
}

TEST(Generation, ShowsAtTheEndWhatWasOnlyTheBeginningOfAStopString) {
  Loaded loaded(small());
  const std::string all = answer(loaded, keeping_all(), greedy(10)).text;
  GenerationOptions options = greedy(10);
  options.stop = {all.substr(all.size() - 3) + "and more"};
  const Answer a = answer(loaded, keeping_all(), options);
  EXPECT_EQ(a.text, all);
  EXPECT_EQ(a.finish, Finish::kLength);
}

TEST(Generation, EndsWhereTheModelEnds) {
  Loaded loaded(small());
  GenerationOptions options = greedy(40);
  options.sampling.ignore_eos = false;
  options.sampling.logit_bias.push_back({.token = kEndOfText, .bias = 1000});
  options.log_probabilities = 0;
  const Answer a = answer(loaded, keeping_all(), options);
  EXPECT_EQ(a.finish, Finish::kEnd);
  EXPECT_EQ(a.tokens, Tokens{});
  EXPECT_EQ(a.text, "");
  EXPECT_TRUE(a.log_probabilities.empty());
}

TEST(Generation, EndsWhereTheConversationIsFull) {
  Loaded loaded(small());
  GenerationOptions options = greedy(300);
  options.limits.conversation = kPrompt + 4;
  for (const SessionOptions& session : {keeping_all(), with("streaming-llm", "24")}) {
    const Answer a = answer(loaded, session, options);
    EXPECT_EQ(a.tokens.size(), 4U);
    EXPECT_EQ(a.finish, Finish::kLength);
    EXPECT_EQ(a.limit, LengthLimit::kConversation);
  }
  options.limits.conversation = kPrompt;
  const Answer none = answer(loaded, keeping_all(), options);
  EXPECT_EQ(none.tokens, Tokens{});
  EXPECT_EQ(none.finish, Finish::kLength);
}

TEST(Generation, GoesOnBeyondTrainingWherePositionsNeverRunOut) {
  TinyModel tiny = small();
  tiny.n_ctx_train = 128;
  Loaded loaded(tiny);
  const Answer on = answer(loaded, with("streaming-llm", "24"), greedy(200));
  EXPECT_EQ(on.tokens.size(), 200U);
  const Answer cut = answer(loaded, with("cake:window=4", "24"), greedy(200));
  EXPECT_EQ(cut.tokens.size(), 128U - kPrompt);
  EXPECT_EQ(cut.limit, LengthLimit::kModel);
}

TEST(Generation, TellsHowLikelyItsTokensWere) {
  Loaded loaded(small());
  GenerationOptions options = greedy(6);
  options.log_probabilities = 3;
  options.sampling.logit_bias.push_back({.token = 300, .bias = 1000});  // no sampler changes them
  const Answer a = answer(loaded, keeping_all(), options);
  EXPECT_EQ(a.tokens, Tokens(6, 300));
  ASSERT_EQ(a.log_probabilities.size(), 6U);

  const auto session = loaded.engine.open(keeping_all());
  session->prefill(random_prompt(loaded, kPrompt).tokens);
  for (const LogProbabilities& one : a.log_probabilities) {
    const auto logits = session->logits();
    double sum = 0;
    for (const float logit : logits) sum += std::exp((double)logit);
    EXPECT_EQ(one.token.token, 300);
    EXPECT_NEAR(one.token.logprob, logits[300] - std::log(sum), 1e-9);
    ASSERT_EQ(one.best.size(), 3U);
    EXPECT_EQ(one.best[0].token, likeliest(logits));
    session->step(300);
  }
}

TEST(Generation, TellsHowLikelyThePromptsTokensWere) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, kPrompt, 5);
  for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    const SessionOptions options = with("full", "", "f32", mode, kPrompt, 60);
    const auto read = loaded.engine.open(options), stepped = loaded.engine.open(options);
    Session* const sessions[] = {read.get()};
    const PromptRead prompt = read_prompt(loaded.engine, sessions, tokens, {.log_probabilities = 1});
    ASSERT_EQ(prompt.log_probabilities.size(), kPrompt - 1);
    stepped->prefill(std::span(tokens).first(1));
    for (std::size_t i = 0; i + 1 < kPrompt; ++i) {
      const LogProbabilities expected = log_probabilities(stepped->logits(), tokens[i + 1], 1);
      EXPECT_EQ(prompt.log_probabilities[i].token.token, tokens[i + 1]);
      EXPECT_NEAR(prompt.log_probabilities[i].token.logprob, expected.token.logprob, 1e-3);
      stepped->step(tokens[i + 1]);
    }
  }
}

TEST(Generation, SeveralAnswersAreThoseThatEachSeedGivesAlone) {
  Loaded loaded(small());
  GenerationOptions options = greedy(12);
  options.sampling.temp = 1.2F;
  options.sampling.seed = 7;
  const ChatPrompt prompt = random_prompt(loaded, kPrompt);
  for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    SCOPED_TRACE(mode == PrefillMode::kExact);
    const SessionOptions session = with("streaming-llm", "24", "f32", mode, kPrompt);
    std::vector<std::unique_ptr<Session>> opened;
    std::vector<Session*> sessions;
    for (int i = 0; i < 3; ++i) sessions.push_back(opened.emplace_back(loaded.engine.open(session)).get());
    std::vector<std::string> joined(3);
    std::size_t last_done = 0, last_total = 0;
    const std::vector<Answer> answers =
        generate(loaded.model, loaded.engine, sessions, prompt, options,
                 {.prompt_progress =
                      [&](std::size_t done, std::size_t total) {
                        EXPECT_GE(done, last_done);
                        last_done = done;
                        last_total = total;
                        return true;
                      },
                  .on_text = [&](std::size_t i, std::string_view text) { joined[i] += text; }});
    EXPECT_EQ(last_done, last_total);
    ASSERT_EQ(answers.size(), 3U);
    EXPECT_EQ(answers[0].seed, 7U);
    EXPECT_NE(answers[0].tokens, answers[1].tokens);
    EXPECT_NE(answers[1].tokens, answers[2].tokens);
    for (std::size_t i = 0; i < 3; ++i) {
      GenerationOptions alone = options;
      alone.sampling.seed = answers[i].seed;
      EXPECT_EQ(answers[i].tokens, answer(loaded, session, alone).tokens);
      EXPECT_EQ(joined[i], answers[i].text);
    }
  }
}

TEST(Generation, IsAdvancedInBatchesByAScheduler) {
  Loaded loaded(small());
  const SessionOptions session = with("lacache", "24");
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<Generation> generations;
  // Answers of different lengths to different prompts, the second begun when the first is half done.
  const std::size_t lengths[] = {12, 9};
  for (unsigned i = 0; i < 2; ++i) {
    sessions.push_back(loaded.engine.open(session));
    generations.emplace_back(loaded.model, AnswerFormat(), greedy(lengths[i]));
    sessions[i]->prefill(random_prompt(loaded, kPrompt, i).tokens);
  }
  generations[0].begin(*sessions[0]);
  for (int round = 0; round == 0 || !generations[0].finished() || !generations[1].finished(); ++round) {
    if (round == 6) generations[1].begin(*sessions[1]);
    std::vector<Engine::Next> batch;
    for (std::size_t i = 0; i < 2; ++i) {
      if ((i == 1 && round < 6) || generations[i].finished()) continue;
      if (const auto step = generations[i].advance(sessions[i]->logits()); step.feed) {
        batch.push_back({sessions[i].get(), *step.feed});
      }
    }
    loaded.engine.step(batch);
  }
  for (unsigned i = 0; i < 2; ++i) {
    EXPECT_EQ(generations[i].answer().tokens,
              plain_answer(loaded, session, random_prompt(loaded, kPrompt, i).tokens, lengths[i]));
  }
}

TEST(Generation, IsCancelledWhileItAnswers) {
  Loaded loaded(small());
  const SessionOptions endless = with("streaming-llm", "24");
  std::atomic<bool> cancel = false, seen = false;
  GenerationOptions options = greedy(LengthLimits::kEndless);
  options.cancel = &cancel;
  std::thread other([&] {
    while (!seen) std::this_thread::yield();
    cancel = true;
  });
  const Answer a = answer(loaded, endless, options, {.on_text = [&](std::size_t, auto) { seen = true; }});
  other.join();
  EXPECT_EQ(a.finish, Finish::kCancelled);
  EXPECT_FALSE(a.text.empty());

  // At once, with what there is.
  cancel = false;
  std::size_t n_texts = 0;
  const Answer one = answer(loaded, endless, options, {.on_text = [&](std::size_t, auto) {
                              ++n_texts;
                              cancel = true;
                            }});
  EXPECT_EQ(one.finish, Finish::kCancelled);
  EXPECT_LE(n_texts, 2U);
}

TEST(Generation, IsCancelledWhileThePromptIsRead) {
  Loaded loaded(small());
  std::atomic<bool> cancel = true;
  GenerationOptions options = greedy(10);
  options.cancel = &cancel;
  const Answer a = answer(loaded, keeping_all(), options);
  EXPECT_EQ(a.finish, Finish::kCancelled);
  EXPECT_EQ(a.tokens, Tokens{});

  const Answer by_hook =
      answer(loaded, keeping_all(), greedy(10), {.prompt_progress = [](auto, auto) { return false; }});
  EXPECT_EQ(by_hook.finish, Finish::kCancelled);
}

TEST(Generation, RefusesWhatCannotBeUsedBeforeAPromptIsRead) {
  Loaded loaded(small());
  GenerationOptions options = greedy(10);
  options.sampling.grammar = "root ::= (";
  EXPECT_TRUE(
      contains(refusal(Error::Kind::kUsage, [&] { Generation(loaded.model, AnswerFormat(), options); }), "grammar"));
  options = greedy(10);
  options.stop = {"a", ""};
  EXPECT_EQ(refusal(Error::Kind::kUsage, [&] { Generation(loaded.model, AnswerFormat(), options); }),
            "stop: expected some text, found none");
}

TEST(Generation, FollowsAGrammar) {
  Loaded loaded(small());
  GenerationOptions options = greedy(10);
  options.sampling.ignore_eos = false;
  options.sampling.grammar = "root ::= \"yes\" | \"no\"";
  const Answer a = answer(loaded, keeping_all(), options);
  EXPECT_TRUE(a.text == "yes" || a.text == "no") << a.text;
  EXPECT_EQ(a.finish, Finish::kEnd);
}

TEST(PlainPrompt, IsLettersUnlessSpecialTokensAreAskedFor) {
  Loaded loaded(small());
  const std::string text = "ab</s>cd";
  const auto n_ends = [&](bool parse) {
    const Tokens tokens = plain_prompt(loaded.model, text, parse).tokens;
    return std::count(tokens.begin(), tokens.end(), kEndOfText);
  };
  EXPECT_EQ(n_ends(false), 0);
  EXPECT_EQ(n_ends(true), 1);
}

}  // namespace
}  // namespace lacake
