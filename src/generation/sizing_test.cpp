#include "lacake/sizing.h"

#include <gtest/gtest.h>

#include "engine/test_session.h"

namespace lacake {
namespace {

constexpr std::size_t kTrained = 256;

TinyModel short_model() {
  TinyModel tiny = small();
  tiny.n_ctx_train = (int)kTrained;
  return tiny;
}

SessionOptions plain(const std::string& policy, const std::string& budget = "") { return with(policy, budget); }

// The room of a session that was fed `n_fed` tokens.
AnswerRoom room_after(Loaded& loaded, const SessionOptions& options, std::size_t n_fed, const LengthLimits& limits) {
  const auto session = loaded.engine.open(options);
  session->prefill(random_tokens(loaded.tiny, n_fed, 3));
  return answer_room(loaded.model.facts(), *session, limits);
}

void expect_room(const AnswerRoom& room, std::size_t tokens, LengthLimit limit) {
  EXPECT_EQ(room.tokens, tokens);
  EXPECT_EQ(room.limit, limit);
}

TEST(AnswerRoom, EndsWhereTheConversationIsFullUnderEveryPolicy) {
  Loaded loaded(short_model());
  for (const std::string policy : {"full", "streaming-llm", "trellis", "lacache"}) {
    SCOPED_TRACE(policy);
    const SessionOptions options =
        sized_for_answer(loaded.engine, loaded.model.facts(), plain(policy, policy == "full" ? "" : "48"), 40,
                         {.answer = 300, .conversation = 64});
    expect_room(room_after(loaded, options, 40, {.answer = 300, .conversation = 64}), 24, LengthLimit::kConversation);
    expect_room(room_after(loaded, options, 40, {.answer = 24, .conversation = 64}), 24, LengthLimit::kAnswer);
  }
}

TEST(AnswerRoom, HasNoEndWherePositionsNeverRunOut) {
  Loaded loaded(short_model());
  const SessionOptions options = plain("streaming-llm", "48");
  expect_room(room_after(loaded, options, 40, {.answer = LengthLimits::kEndless}), LengthLimits::kEndless,
              LengthLimit::kAnswer);
  expect_room(room_after(loaded, options, 40, {.answer = 1000}), 1000, LengthLimit::kAnswer);
  // Nobody asked for more: an answer as long as training.
  expect_room(room_after(loaded, options, 40, {}), kTrained, LengthLimit::kModel);
}

TEST(AnswerRoom, EndsWhereTrainingDidUnderTruePositions) {
  Loaded loaded(short_model());
  const SessionOptions options = plain("cake:window=4", "48");
  for (const auto answer : {std::optional<std::size_t>(), std::optional(LengthLimits::kEndless)}) {
    expect_room(room_after(loaded, options, 40, {.answer = answer}), kTrained - 40, LengthLimit::kModel);
  }
  // As many as that can be fed.
  const auto session = loaded.engine.open(options);
  session->prefill(random_tokens(loaded.tiny, 40, 3));
  for (std::size_t i = 0; i < kTrained - 40; ++i) session->step(5);
  EXPECT_NE(refusal(Error::Kind::kInput, [&] { session->step(5); }), "");
}

TEST(AnswerRoom, EndsWhereACacheIsFullThatNothingLeaves) {
  Loaded loaded(short_model());
  SessionOptions options = plain("full");
  options.prompt_tokens = 40;
  options.new_tokens = 10;
  expect_room(room_after(loaded, options, 40, {}), 10, LengthLimit::kCache);
}

TEST(Sizing, ReservesTheWholeAnswerForAPolicyThatKeepsEverything) {
  Loaded loaded(short_model());
  const auto new_tokens = [&](const LengthLimits& limits) {
    return sized_for_answer(loaded.engine, loaded.model.facts(), plain("full"), 40, limits).new_tokens;
  };
  EXPECT_EQ(new_tokens({}), kTrained - 40);
  EXPECT_EQ(new_tokens({.answer = 30}), 30U);
  EXPECT_EQ(new_tokens({.answer = 30, .conversation = 64}), 24U);
  EXPECT_EQ(new_tokens({.conversation = 64}), 24U);
  EXPECT_EQ(new_tokens({.answer = 10'000}), kTrained - 40);
}

TEST(Sizing, HalvesOnlyARoomThatNobodyNamed) {
  Loaded loaded(short_model());
  const SessionOptions budgeted = plain("full", "150");
  EXPECT_EQ(sized_for_answer(loaded.engine, loaded.model.facts(), budgeted, 40, {}).new_tokens, (kTrained - 40) / 2);
  EXPECT_EQ(sized_for_answer(loaded.engine, loaded.model.facts(), budgeted, 40, {.answer = 200}).new_tokens, 200U);
  EXPECT_EQ(sized_for_conversation(loaded.engine, loaded.model.facts(), budgeted, {}).prompt_tokens, kTrained / 2);
  EXPECT_EQ(sized_for_conversation(loaded.engine, loaded.model.facts(), budgeted, {.conversation = 100}).prompt_tokens,
            100U);
}

TEST(Sizing, RefusesAPromptLongerThanTheConversation) {
  Loaded loaded(short_model());
  const auto asked = [&](std::size_t prompt) {
    return refusal(Error::Kind::kCapacity, [&] {
      sized_for_answer(loaded.engine, loaded.model.facts(), plain("streaming-llm", "48"), prompt, {.conversation = 64});
    });
  };
  EXPECT_EQ(asked(64), "");
  EXPECT_EQ(asked(65), "ctx_size: expected a conversation of at most 64 tokens, found a prompt of 65");
  EXPECT_EQ(refusal(Error::Kind::kCapacity, [] { require_room(60, 5, {.conversation = 64}); }),
            "ctx_size: expected a conversation of at most 64 tokens, found 60 tokens and 5 more to read");
}

}  // namespace
}  // namespace lacake
