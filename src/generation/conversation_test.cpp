#include "lacake/conversation.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <stdexcept>

#include "base/files.h"
#include "generation/test_generation.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

constexpr std::size_t kLength = 400;

ConversationOptions options(std::size_t n_new = 12, const std::string& policy = "full") {
  SessionOptions session = with(policy, policy == "full" ? "" : "64", "f32", PrefillMode::kExact, kLength);
  return {.session = session, .generation = greedy(n_new), .opening = {{.role = "system", .content = "be brief"}}};
}

Message user(const std::string& text) { return {.role = "user", .content = text}; }

// The text of all that a session was fed, control tokens included.
std::string fed(const Loaded& loaded, const Conversation& conversation) {
  std::string text;
  for (const Token token : conversation.session()->tokens()) text += loaded.model.piece(token, true);
  return text;
}

// White space is the tokenizer's affair.
std::string without_spaces(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  return text;
}

std::vector<std::string> contents(const Conversation& conversation) {
  std::vector<std::string> texts;
  for (const Message& message : conversation.messages()) texts.push_back(message.content);
  return texts;
}

// Every turn's answer.
std::vector<std::string> answers(Loaded& loaded, const ConversationOptions& o,
                                 const std::vector<std::string>& questions) {
  Conversation conversation(loaded.model, loaded.engine, o);
  std::vector<std::string> texts;
  for (const std::string& question : questions) texts.push_back(conversation.ask(user(question)).answer.text);
  return texts;
}

TEST(Conversation, FeedsOnlyWhatIsNew) {
  Loaded loaded(chatting());
  for (const std::string policy : {"full", "streaming-llm"}) {
    SCOPED_TRACE(policy);
    Conversation conversation(loaded.model, loaded.engine, options(12, policy));
    std::string expected = "<s>system be brief</s>";
    for (const std::string question : {"why is it", "and what else", "no"}) {
      const std::size_t before = conversation.session()->tokens().size();
      const Turn turn = conversation.ask(user(question));
      EXPECT_FALSE(turn.read_again);
      EXPECT_EQ(conversation.session()->tokens().size(), before + turn.n_read + turn.answer.tokens.size() - 1);
      EXPECT_LE(turn.n_read, 40U);
      const std::string text = text_of(loaded.model, Tokens(turn.answer.tokens.begin(), turn.answer.tokens.end() - 1));
      expected += "<s>user " + question + "</s><s>assistant ";
      EXPECT_EQ(without_spaces(fed(loaded, conversation)), without_spaces(expected + text));
      expected += text_of(loaded.model, turn.answer.tokens) + "</s>";
    }
    EXPECT_EQ(conversation.n_turns(), 3U);
    EXPECT_EQ(conversation.messages().size(), 7U);
  }
}

TEST(Conversation, AnEditedMessageThatIsTooLongTakesNothingAway) {
  Loaded loaded(chatting());
  ConversationOptions o = options();
  o.checkpoint_bytes = 1 << 20;
  Conversation conversation(loaded.model, loaded.engine, o);
  (void)conversation.ask(user("why is it"));
  (void)conversation.ask(user("and then"));
  const std::string before = fed(loaded, conversation);
  std::vector<Message> edited = conversation.messages();
  edited.resize(edited.size() - 3);
  edited.back().content = std::string(3 * kLength, 'x');
  EXPECT_NE(refusal(Error::Kind::kCapacity, [&] { (void)conversation.begin(edited, {.generation = greedy(4)}); }), "");
  EXPECT_EQ(fed(loaded, conversation), before);
  EXPECT_EQ(conversation.n_turns(), 2U);
  EXPECT_LE(conversation.ask(user("no")).n_read, 40U);
}

TEST(Conversation, AnswersAsAfterTheWholeTextWrittenOut) {
  Loaded loaded(chatting());
  ConversationOptions ended = options(12);
  ended.generation.stop = {};
  Conversation conversation(loaded.model, loaded.engine, ended);
  (void)conversation.ask(user("why is it"));
  const Tokens before = conversation.session()->tokens();
  const Turn second = conversation.ask(user("and what else"));
  // What was fed in turns, fed at once.
  const Tokens all = conversation.session()->tokens();
  const Tokens prompt(all.begin(), all.begin() + (std::ptrdiff_t)(before.size() + second.n_read));
  EXPECT_EQ(plain_answer(loaded, ended.session, prompt, 12), second.answer.tokens);
}

TEST(Conversation, ReadsAgainWhatTheTemplateRewrites) {
  Loaded loaded(chatting(kForgetfulTemplate));
  Conversation conversation(loaded.model, loaded.engine, options());
  std::vector<std::size_t> again;
  const ConversationHooks hooks{.read_again = [&](std::size_t n_tokens) { again.push_back(n_tokens); }};
  EXPECT_FALSE(conversation.ask(user("why is it"), hooks).read_again);
  const Turn turn = conversation.ask(user("and what else"), hooks);
  EXPECT_TRUE(turn.read_again);
  EXPECT_EQ(again, std::vector<std::size_t>{turn.n_read});
  // The session holds what the template writes, from its beginning, and not what was said before.
  const Message messages[] = {{.role = "system", .content = "be brief"}, user("why is it"), user("and what else")};
  const Tokens prompt = loaded.model.chat(messages).tokens;
  const Tokens& fed = conversation.session()->tokens();
  EXPECT_EQ(turn.n_read, prompt.size());
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), fed.begin()));
  EXPECT_EQ(conversation.messages().size(), 5U);
}

TEST(Conversation, ReadsAgainWhereAnAnswerWasCutBeforeAStopString) {
  Loaded loaded(chatting());
  const std::string all = answers(loaded, options(), {"why is it"})[0];
  ConversationOptions stopped = options();
  stopped.generation.stop = {all.substr(4, 4)};
  Conversation conversation(loaded.model, loaded.engine, stopped);
  EXPECT_EQ(conversation.ask(user("why is it")).answer.text, all.substr(0, all.find(all.substr(4, 4))));
  // Part of the stop string was fed: what the session holds is not what was said.
  EXPECT_TRUE(conversation.ask(user("and what else")).read_again);
  const Message messages[] = {
      {.role = "system", .content = "be brief"}, user("why is it"), conversation.messages()[2], user("and what else")};
  const Tokens prompt = loaded.model.chat(messages).tokens;
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), conversation.session()->tokens().begin()));
}

std::size_t n_kept_of_first(const Session& session, std::size_t n) {
  const std::vector<std::int64_t> kept = session.kept(0, 0);
  return (std::size_t)std::count_if(kept.begin(), kept.end(),
                                    [&](std::int64_t position) { return position < std::int64_t(n); });
}

// Also when it was saved in between, edited, and read again.
TEST(Conversation, ASystemMessageStaysWhereItIsPinned) {
  Loaded loaded(chatting());
  for (const char* policy : {"streaming-llm", "snapkv:window=4", "full"}) {
    SCOPED_TRACE(policy);
    ConversationOptions o = options(12, policy);
    o.checkpoint_bytes = 1 << 20;
    o.opening.clear();
    o.pins_opening = true;
    const TemporaryFolder folder;
    std::vector<Message> messages = {{.role = "system", .content = "the word is fish"}};
    std::size_t n_opening = 0;
    {
      Conversation conversation(loaded.model, loaded.engine, o);
      for (int turn = 0; turn < 4; ++turn) {
        messages.push_back(user("question " + std::string(30, 'x')));
        const Turn answered = conversation.answer(messages);
        if (turn == 0) n_opening = loaded.model.chat({&messages[0], 1}, {.add_generation_prompt = false}).tokens.size();
        messages.push_back({.role = "assistant", .content = answered.answer.text});
        EXPECT_EQ(n_kept_of_first(*conversation.session(), n_opening), n_opening);
      }
      EXPECT_GT(conversation.session()->tokens().size(), 150U);
      conversation.save(folder.path("a.kv"));
    }
    Conversation conversation(loaded.model, loaded.engine, o, Snapshot(folder.path("a.kv")));
    messages.push_back(user("and then"));
    EXPECT_FALSE(conversation.answer(messages).read_again);
    EXPECT_EQ(n_kept_of_first(*conversation.session(), n_opening), n_opening);
    messages[0].content = "the word is not fish but fowl";
    EXPECT_TRUE(conversation.answer(messages).read_again);
    EXPECT_EQ(n_kept_of_first(*conversation.session(), n_opening + 10), n_opening + 10);
  }
}

TEST(Conversation, ASystemMessageThatLeavesTooLittleIsRefused) {
  Loaded loaded(chatting());
  ConversationOptions o = options(12, "streaming-llm");
  o.pins_opening = true;
  o.opening = {{.role = "system", .content = std::string(60, 's')}};
  Conversation conversation(loaded.model, loaded.engine, o);
  const std::string refused = refusal(Error::Kind::kCapacity, [&] { (void)conversation.ask(user("why")); });
  EXPECT_TRUE(contains(refused, "opening: expected 48 tokens at most, of a budget of 63 entries a layer, found"))
      << refused;
  EXPECT_EQ(conversation.messages().size(), 1U);
  EXPECT_TRUE(conversation.session()->tokens().empty());
}

void stop_questions(const std::string& policy) {
  Loaded loaded(chatting());
  const std::vector<std::string> expected = answers(loaded, options(12, policy), {"why is it", "and what else"});
  for (const std::size_t stop_at : {1, 2, 4}) {
    Conversation conversation(loaded.model, loaded.engine, options(12, policy));
    EXPECT_EQ(conversation.ask(user("why is it")).answer.text, expected[0]);
    const std::vector<std::string> before = contents(conversation);
    std::size_t calls = 0;
    const Turn stopped =
        conversation.ask(user("never answered"), {.prompt_progress = [&](auto, auto) { return ++calls < stop_at; }});
    EXPECT_EQ(stopped.answer.finish, Finish::kCancelled);
    EXPECT_EQ(contents(conversation), before);
    EXPECT_EQ(conversation.n_turns(), 1U);
    const Turn next = conversation.ask(user("and what else"));
    EXPECT_FALSE(next.read_again);
    EXPECT_EQ(next.answer.text, expected[1]);
    EXPECT_EQ(conversation.n_turns(), 2U);
  }
}

TEST(Conversation, IsAsItWasAfterAQuestionThatWasStopped) { stop_questions("full"); }
TEST(Conversation, IsAsItWasAfterAStoppedQuestionThatEvicted) { stop_questions("streaming-llm"); }

TEST(Conversation, IsAsItWasAfterAQuestionThatDoesNotFit) {
  Loaded loaded(chatting());
  ConversationOptions o = options();
  o.generation.limits.conversation = 120;
  const std::vector<std::string> expected = answers(loaded, o, {"why is it", "and what else"});
  Conversation conversation(loaded.model, loaded.engine, o);
  (void)conversation.ask(user("why is it"));
  const std::size_t held = conversation.session()->tokens().size();
  const std::string long_question(200, 'x');
  EXPECT_TRUE(contains(refusal(Error::Kind::kCapacity, [&] { (void)conversation.ask(user(long_question)); }), "120"));
  EXPECT_EQ(conversation.session()->tokens().size(), held);
  EXPECT_EQ(conversation.messages().size(), 3U);
  const Turn next = conversation.ask(user("and what else"));
  EXPECT_FALSE(next.read_again);
  EXPECT_EQ(next.answer.text, expected[1]);
}

TEST(Conversation, IsAsItWasAfterAQuestionThatTheCacheRefuses) {
  Loaded loaded(chatting());
  ConversationOptions o = options();
  o.session.prompt_tokens = 150;
  const std::vector<std::string> expected = answers(loaded, o, {"why is it", "and what else"});
  Conversation conversation(loaded.model, loaded.engine, o);
  (void)conversation.ask(user("why is it"));
  EXPECT_NE(refusal(Error::Kind::kCapacity, [&] { (void)conversation.ask(user(std::string(300, 'x'))); }), "");
  EXPECT_EQ(conversation.messages().size(), 3U);
  const Turn next = conversation.ask(user("and what else"));
  EXPECT_FALSE(next.read_again);
  EXPECT_EQ(next.answer.text, expected[1]);
}

TEST(Conversation, IsAsItWasAfterAnAnswerThatFailed) {
  Loaded loaded(chatting());
  const std::vector<std::string> expected = answers(loaded, options(), {"why is it", "and what else"});
  Conversation conversation(loaded.model, loaded.engine, options());
  (void)conversation.ask(user("why is it"));
  EXPECT_THROW((void)conversation.ask(user("never"), {.on_text = [](auto) { throw std::runtime_error("gone"); }}),
               std::runtime_error);
  EXPECT_EQ(conversation.messages().size(), 3U);
  const Turn next = conversation.ask(user("and what else"));
  EXPECT_TRUE(next.read_again);  // the question that has no answer cannot be taken out of the cache
  EXPECT_EQ(next.answer.text, expected[1]);
}

TEST(Conversation, KeepsAnAnswerThatWasStopped) {
  Loaded loaded(chatting());
  std::atomic<bool> cancel = false;
  ConversationOptions o = options(50);
  o.generation.cancel = &cancel;
  Conversation conversation(loaded.model, loaded.engine, o);
  const Turn stopped = conversation.ask(user("why is it"), {.on_text = [&](auto) { cancel = true; }});
  EXPECT_EQ(stopped.answer.finish, Finish::kCancelled);
  cancel = false;
  EXPECT_EQ(conversation.messages().back().content, stopped.answer.text);
  EXPECT_FALSE(conversation.ask(user("go on")).read_again);  // the token that was chosen last is fed now
  EXPECT_TRUE(contains(without_spaces(fed(loaded, conversation)), without_spaces(stopped.answer.text) + "</s>"));
}

// Three conversations on one engine, reading and writing in turns, as a server does it.
TEST(Replies, OfSeveralConversationsAreWhatEachGivesAlone) {
  Loaded loaded(chatting());
  ConversationOptions making = options(12, "streaming-llm");
  const std::vector<std::string> questions = {"why is it", std::string(300, 'q') + "?", "and what else is there"};
  std::vector<Turn> expected;
  std::vector<std::unique_ptr<Conversation>> talks;
  for (const std::string& question : questions) {
    Conversation alone(loaded.model, loaded.engine, making);
    (void)alone.ask(user(question));
    expected.push_back(alone.ask(user("and then")));
    talks.push_back(std::make_unique<Conversation>(loaded.model, loaded.engine, making));
    (void)talks.back()->ask(user(question));
  }
  std::vector<Reply> replies;
  for (const auto& talk : talks) {
    std::vector<Message> messages = talk->messages();
    messages.push_back(user("and then"));
    EXPECT_EQ(talk->n_held_of(messages, {}), talk->session()->tokens().size());
    replies.push_back(talk->begin(messages, {.generation = making.generation}));
  }
  for (bool going = true; going;) {
    going = false;
    std::vector<Engine::Next> batch;
    for (Reply& reply : replies) {
      if (reply.reading() || reply.writing().empty()) {
        (void)reply.read();
        going = true;
        continue;
      }
      const Writing& writing = reply.writing()[0];
      if (writing.generation->finished()) continue;
      const Generation::Step step = writing.generation->advance(writing.session->logits());
      if (step.feed) batch.push_back({writing.session, *step.feed});
      going = true;
    }
    loaded.engine.step(batch);
  }
  for (std::size_t i = 0; i < replies.size(); ++i) {
    const Turn turn = replies[i].end();
    EXPECT_EQ(turn.answer.tokens, expected[i].answer.tokens);
    EXPECT_EQ(turn.n_read, expected[i].n_read);
    EXPECT_EQ(turn.n_held, expected[i].n_held);
    EXPECT_EQ(talks[i]->messages().back().content, expected[i].answer.text);
  }
}

TEST(Replies, ThatGoBeforeTheirEndLeaveNoTrace) {
  Loaded loaded(chatting());
  for (const std::string policy : {"full", "streaming-llm"}) {
    SCOPED_TRACE(policy);
    ConversationOptions making = options(12, policy);
    making.checkpoint_bytes = 1 << 20;
    const std::vector<std::string> expected = answers(loaded, making, {"why is it", "and what else"});
    Conversation conversation(loaded.model, loaded.engine, making);
    (void)conversation.ask(user("why is it"));
    const Tokens held = conversation.session()->tokens();
    std::vector<Message> messages = conversation.messages();
    messages.push_back(user("never answered"));
    for (const std::size_t n_steps : {0U, 1U, 3U, 100U}) {
      Reply reply = conversation.begin(messages, {.generation = making.generation});
      for (std::size_t i = 0; i < n_steps && reply.read(); ++i) continue;
      if (n_steps == 100) {
        const Writing& writing = reply.writing()[0];
        const Generation::Step step = writing.generation->advance(writing.session->logits());
        const Engine::Next next{writing.session, *step.feed};
        loaded.engine.step({&next, 1});
      }
    }
    EXPECT_EQ(conversation.session()->tokens(), held);
    EXPECT_EQ(conversation.messages().size(), 3U);
    const Turn next = conversation.ask(user("and what else"));
    EXPECT_FALSE(next.read_again);
    EXPECT_EQ(next.answer.text, expected[1]);
  }
}

TEST(Replies, OfSeveralAnswersKeepTheFirst) {
  Loaded loaded(chatting());
  ConversationOptions making = options(12, "streaming-llm");
  making.generation.sampling.temp = 1;
  making.generation.sampling.seed = 5;
  Conversation conversation(loaded.model, loaded.engine, making), alone(loaded.model, loaded.engine, making);
  const Turn expected = alone.ask(user("why is it"));
  std::vector<Message> messages = conversation.messages();
  messages.push_back(user("why is it"));
  Reply reply = conversation.begin(messages, {.generation = making.generation, .n_answers = 3});
  while (reply.read()) continue;
  ASSERT_EQ(reply.writing().size(), 3U);
  write_answers(loaded.engine, reply.writing());
  const std::string second = reply.writing()[1].generation->answer().text;
  EXPECT_NE(second, expected.answer.text);
  EXPECT_NE(second, reply.writing()[2].generation->answer().text);
  EXPECT_EQ(reply.end().answer.text, expected.answer.text);
  EXPECT_EQ(loaded.engine.kv_memory().n_sessions, 2U);
  EXPECT_EQ(conversation.ask(user("and what else")).answer.text, alone.ask(user("and what else")).answer.text);
}

TEST(Conversation, ForgetsEverythingButItsOpening) {
  Loaded loaded(chatting());
  const std::vector<std::string> expected = answers(loaded, options(), {"and what else"});
  Conversation conversation(loaded.model, loaded.engine, options());
  (void)conversation.ask(user("why is it"));
  conversation.clear();
  EXPECT_EQ(contents(conversation), std::vector<std::string>{"be brief"});
  EXPECT_EQ(conversation.session()->tokens().size(), 0U);
  const Turn turn = conversation.ask(user("and what else"));
  EXPECT_FALSE(turn.read_again);
  EXPECT_EQ(turn.answer.text, expected[0]);
}

TEST(Conversation, RunsWithoutATemplate) {
  Loaded loaded(small());
  ConversationOptions o = options();
  o.raw = true;
  Conversation conversation(loaded.model, loaded.engine, o);
  const Turn first = conversation.ask(user("why is it"));
  EXPECT_FALSE(conversation.ask(user("and what else")).read_again);
  EXPECT_TRUE(contains(without_spaces(fed(loaded, conversation)),
                       without_spaces("be brief why is it" + first.answer.text + "and what else")));
}

TEST(Conversation, TakesMessagesAsLetters) {
  Loaded loaded(chatting());
  const auto n_ends = [&](bool parse) {
    ConversationOptions o = options();
    o.parse_special = parse;
    Conversation conversation(loaded.model, loaded.engine, o);
    (void)conversation.ask(user("no</s>more"));
    const Tokens& tokens = conversation.session()->tokens();
    return std::count(tokens.begin(), tokens.end(), kEndOfText);
  };
  EXPECT_EQ(n_ends(true), n_ends(false) + 1);
}

// --- going back, saving and reading ahead ------------------------------------------------------------------------

constexpr std::uint64_t kPlenty = 1 << 30;

ConversationOptions with_checkpoints(const std::string& policy, std::uint64_t bytes = kPlenty) {
  ConversationOptions o = options(12, policy);
  o.session.prompt_tokens = 2000;
  o.checkpoint_bytes = bytes;
  return o;
}

class ConversationCheckpoints : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Policies, ConversationCheckpoints, testing::Values("full", "streaming-llm"),
                         [](const auto& policy) { return std::string(policy.param) == "full" ? "full" : "bounded"; });

TEST_P(ConversationCheckpoints, AnAnswerThatIsAskedForAgainReadsNoQuestionAgain) {
  Loaded loaded(chatting());
  Conversation conversation(loaded.model, loaded.engine, with_checkpoints(GetParam()));
  (void)conversation.ask(user("why is it"));
  const Turn second = conversation.ask(user("and what else"));
  const Turn again = conversation.retry();
  EXPECT_FALSE(again.read_again);
  EXPECT_EQ(again.n_read, 0U);
  EXPECT_EQ(again.answer.text, second.answer.text);  // greedy, and the seed does not matter
  EXPECT_EQ(conversation.messages().size(), 5U);
}

TEST_P(ConversationCheckpoints, AnEditedQuestionGoesOnFromTheMessageBefore) {
  Loaded loaded(chatting());
  const std::string policy = GetParam();
  Conversation conversation(loaded.model, loaded.engine, with_checkpoints(policy));
  for (const char* question : {"one", "two", "three", "four"}) (void)conversation.ask(user(question));
  std::vector<Message> edited = conversation.messages();
  edited.resize(6);
  edited[5].content = "something else";
  const Turn turn = conversation.answer(edited);
  EXPECT_FALSE(turn.read_again);
  EXPECT_GT(turn.n_held, 0U);
  EXPECT_LE(turn.n_read, 45U);
  EXPECT_EQ(conversation.n_turns(), 3U);

  // As one that never heard of the others.
  Conversation fresh(loaded.model, loaded.engine, with_checkpoints(policy));
  for (const char* question : {"one", "two", "something else"}) {
    const Turn expected = fresh.ask(user(question));
    if (std::string(question) == "something else") {
      EXPECT_EQ(turn.answer.text, expected.answer.text);
    }
  }
  EXPECT_EQ(conversation.session()->tokens(), fresh.session()->tokens());
  EXPECT_TRUE(same_bits(conversation.session()->logits(), fresh.session()->logits()));
}

// The template leaves old answers out, so that what a prompt ends with, the opening of an answer, never comes again.
TEST_P(ConversationCheckpoints, WhatATemplateDropsOfAnswersCostsNoQuestionAgain) {
  Loaded loaded(chatting(kForgetfulTemplate));
  Conversation conversation(loaded.model, loaded.engine, with_checkpoints(GetParam()));
  (void)conversation.ask(user("why is it"));
  for (const char* question : {"and what else", "three", "four"}) {
    const Turn turn = conversation.ask(user(question));
    EXPECT_FALSE(turn.read_again);
    EXPECT_GT(turn.n_held, 0U);
    EXPECT_LE(turn.n_read, 40U);  // this question alone
  }
  const std::vector<Message>& all = conversation.messages();
  std::vector<Message> questions;
  std::copy_if(all.begin(), all.end(), std::back_inserter(questions),
               [](const Message& m) { return m.role != "assistant"; });
  EXPECT_TRUE(
      contains(without_spaces(fed(loaded, conversation)), without_spaces(loaded.model.chat(questions).text.text)));
}

TEST_P(ConversationCheckpoints, AnAnswerThatFailedLeavesNoTrace) {
  Loaded loaded(chatting());
  Conversation conversation(loaded.model, loaded.engine, with_checkpoints(GetParam()));
  (void)conversation.ask(user("why is it"));
  const Logits before = logits_of(*conversation.session());
  EXPECT_THROW((void)conversation.ask(user("never"), {.on_text = [](auto) { throw std::runtime_error("gone"); }}),
               std::runtime_error);
  ASSERT_NE(conversation.session(), nullptr);
  EXPECT_TRUE(same_bits(conversation.session()->logits(), before));
  EXPECT_FALSE(conversation.ask(user("and what else")).read_again);
}

TEST_P(ConversationCheckpoints, UndoForgetsTheLastQuestion) {
  Loaded loaded(chatting());
  Conversation conversation(loaded.model, loaded.engine, with_checkpoints(GetParam()));
  (void)conversation.ask(user("why is it"));
  const std::size_t held = conversation.session()->tokens().size();
  const Turn expected = conversation.ask(user("and what else"));
  EXPECT_TRUE(conversation.undo());
  EXPECT_EQ(conversation.n_turns(), 1U);
  EXPECT_EQ(conversation.session()->tokens().size(), held);
  const Turn turn = conversation.ask(user("and what else"));
  EXPECT_FALSE(turn.read_again);
  EXPECT_EQ(turn.answer.text, expected.answer.text);
  EXPECT_TRUE(conversation.undo());
  EXPECT_TRUE(conversation.undo());
  EXPECT_FALSE(conversation.undo());
  EXPECT_EQ(contents(conversation), std::vector<std::string>{"be brief"});
}

TEST_P(ConversationCheckpoints, NeverTakeMoreThanAllowed) {
  Loaded loaded(chatting());
  const std::uint64_t most = 40'000;
  Conversation conversation(loaded.model, loaded.engine, with_checkpoints(GetParam(), most));
  for (int i = 0; i < 12; ++i) {
    (void)conversation.ask(user("question " + std::to_string(i)));
    EXPECT_LE(conversation.checkpoint_bytes(), most);
  }
  EXPECT_GT(conversation.checkpoint_bytes(), 0U);
  EXPECT_FALSE(conversation.retry().read_again);
}

// A caller's messages need not begin with the opening, nor be as many.
TEST(Conversation, TakesMessagesThatDoNotBeginWithItsOpening) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  Loaded loaded(chatting());
  ConversationOptions o = with_checkpoints("full");
  o.opening = {{.role = "system", .content = "be brief"}, user("hello"), {.role = "assistant", .content = "yes"}};
  Conversation conversation(loaded.model, loaded.engine, o);
  const Turn turn = conversation.answer({user("why is it")});
  EXPECT_EQ(conversation.n_turns(), 1U);
  EXPECT_EQ(conversation.retry().answer.text, turn.answer.text);
  EXPECT_EQ(conversation.messages().size(), 2U);
  conversation.save(path);
  Conversation opened(loaded.model, loaded.engine, {.generation = greedy(12)}, Snapshot(path));
  EXPECT_EQ(contents(opened), contents(conversation));
  EXPECT_TRUE(conversation.undo());
  EXPECT_TRUE(conversation.messages().empty());
}

TEST(Conversation, RefusesAPromptOfNoTokens) {
  TinyModel tiny = small();
  tiny.edit = [](gguf_context* g) { gguf_set_val_bool(g, "tokenizer.ggml.add_bos_token", false); };
  Loaded loaded(tiny);
  ConversationOptions o = options();
  o.raw = true;
  Conversation conversation(loaded.model, loaded.engine, o);
  EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { (void)conversation.answer({}); }), "prompt"));
}

TEST(Conversation, IsNothingToAskAgainBeforeAQuestion) {
  Loaded loaded(chatting());
  Conversation conversation(loaded.model, loaded.engine, options());
  EXPECT_TRUE(contains(refusal(Error::Kind::kState, [&] { (void)conversation.retry(); }), "a question"));
}

TEST(Conversation, GoesOnInAnotherProcess) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  Loaded loaded(chatting());
  for (const std::string policy : {"full", "streaming-llm", "snapkv:window=4"}) {
    SCOPED_TRACE(policy);
    Conversation conversation(loaded.model, loaded.engine, options(12, policy));
    (void)conversation.ask(user("why is it\xff </s> no"));
    conversation.save(path);
    EXPECT_EQ(conversation.saved_bytes(), Snapshot(path).facts().file_bytes);
    EXPECT_EQ(conversation.saved(), read_file(path));
    Loaded other(chatting());
    Conversation opened(other.model, other.engine, {.generation = greedy(12)}, Snapshot(path));
    EXPECT_EQ(contents(opened), contents(conversation));
    EXPECT_EQ(opened.n_turns(), 1U);
    const Turn expected = conversation.ask(user("and what else")), turn = opened.ask(user("and what else"));
    EXPECT_FALSE(turn.read_again);
    EXPECT_EQ(turn.n_read, expected.n_read);
    EXPECT_EQ(turn.answer.tokens, expected.answer.tokens);
    EXPECT_TRUE(same_bits(opened.session()->logits(), conversation.session()->logits()));
    opened.clear();
    EXPECT_EQ(contents(opened), std::vector<std::string>{"be brief"});
    EXPECT_FALSE(opened.ask(user("why is it")).read_again);
  }
}

TEST_P(ConversationCheckpoints, EditingCostsNoMoreInAnotherProcess) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  Loaded loaded(chatting());
  ConversationOptions making = with_checkpoints(GetParam());
  making.saved_checkpoint_bytes = kPlenty;
  Conversation conversation(loaded.model, loaded.engine, making);
  for (const char* question : {"one", "two", "three"}) (void)conversation.ask(user(question));
  conversation.save(path);
  EXPECT_EQ(conversation.saved_bytes(), Snapshot(path).facts().file_bytes);

  Conversation opened(loaded.model, loaded.engine, making, Snapshot(path));
  EXPECT_EQ(opened.checkpoint_bytes(), conversation.checkpoint_bytes());
  EXPECT_EQ(opened.retry().n_read, 0U);
  std::vector<Message> edited = opened.messages();
  edited.resize(4);
  edited[3].content = "something else";
  const Turn turn = opened.answer(edited), expected = conversation.answer(edited);
  EXPECT_FALSE(turn.read_again);
  EXPECT_EQ(turn.n_read, expected.n_read);
  EXPECT_EQ(turn.answer.tokens, expected.answer.tokens);
  EXPECT_TRUE(same_bits(opened.session()->logits(), conversation.session()->logits()));
  EXPECT_TRUE(opened.undo());
  EXPECT_FALSE(opened.ask(user("two")).read_again);
}

TEST_P(ConversationCheckpoints, AFileHasNoMoreThanAllowedAndIsOpenedWithNoMore) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  Loaded loaded(chatting());
  ConversationOptions making = with_checkpoints(GetParam());
  const auto talk = [](Conversation& conversation) {
    for (int i = 0; i < 12; ++i) (void)conversation.ask(user("question " + std::to_string(i)));
  };
  Conversation without(loaded.model, loaded.engine, making);
  talk(without);
  without.save(path);
  EXPECT_TRUE(Snapshot(path).facts().checkpoints.empty());

  const std::uint64_t most = without.checkpoint_bytes() / 2;
  making.saved_checkpoint_bytes = most;
  Conversation conversation(loaded.model, loaded.engine, making);
  talk(conversation);
  conversation.save(path);
  std::uint64_t bytes = 0;
  const Snapshot snapshot(path);
  for (const SavedCheckpoint& c : snapshot.facts().checkpoints) bytes += c.bytes;
  EXPECT_LE(bytes, most);
  EXPECT_GT(bytes, most / 2);
  EXPECT_GT(conversation.checkpoint_bytes(), most);

  making.checkpoint_bytes = bytes / 2;
  Conversation opened(loaded.model, loaded.engine, making, Snapshot(path));
  EXPECT_LE(opened.checkpoint_bytes(), bytes / 2);
  EXPECT_FALSE(opened.retry().read_again);
}

TEST(Conversation, AsksAgainWithSeedsOfTheirOwnInAnotherProcess) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  Loaded loaded(chatting());
  ConversationOptions making = options(4, "full");
  making.generation.sampling = {.seed = 7};
  Conversation conversation(loaded.model, loaded.engine, making);
  (void)conversation.ask(user("why is it"));
  const std::uint32_t first = conversation.retry().answer.seed;
  conversation.save(path);
  Conversation opened(loaded.model, loaded.engine, making, Snapshot(path));
  const std::uint32_t second = opened.retry().answer.seed;
  EXPECT_EQ(second, conversation.retry().answer.seed);
  EXPECT_NE(second, first);
}

TEST(Conversation, AFileWhoseCheckpointsHaveNoTextIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  Loaded loaded(chatting());
  Conversation conversation(loaded.model, loaded.engine, options(4, "full"));
  (void)conversation.ask(user("why is it"));
  conversation.save(path);
  const auto [session, none] = loaded.engine.open(Snapshot(path), {});
  const auto checkpoint = session->checkpoint();
  const SessionCheckpoint* const one[] = {checkpoint.get()};
  const SnapshotNote note{"conversation", *Snapshot(path).note("conversation")};
  session->save(path, {&note, 1}, one);
  const std::string line = refusal(Error::Kind::kInput, [&] {
    Conversation(loaded.model, loaded.engine, {.generation = greedy(1)}, Snapshot(path));
  });
  EXPECT_EQ(line, path + ": conversation: expected 1 checkpoints, found 0");
}

TEST(Conversation, ASessionWithoutOneIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  Loaded loaded(chatting());
  loaded.engine.open(with("full"))->save(path);
  const std::string line = refusal(Error::Kind::kInput, [&] {
    Conversation(loaded.model, loaded.engine, {.generation = greedy(1)}, Snapshot(path));
  });
  EXPECT_EQ(line, path + ": conversation: expected one beside the session, found none");
}

// The same tensors are the same model, whatever template is beside them.
TEST(Conversation, AModelThatLostItsTemplateIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  Loaded loaded(chatting()), bare(small());
  Conversation conversation(loaded.model, loaded.engine, options(4, "full"));
  (void)conversation.ask(user("why is it"));
  conversation.save(path);
  const std::string line = refusal(
      Error::Kind::kInput, [&] { Conversation(bare.model, bare.engine, {.generation = greedy(1)}, Snapshot(path)); });
  EXPECT_TRUE(contains(line, path + ": conversation: expected a model with a chat template")) << line;
}

TEST(Conversation, ReadsTheBeginningOfAQuestionAhead) {
  const TemporaryFolder folder;
  const std::string path = folder.path("book.kv");
  Loaded loaded(chatting());
  // No token goes over a full stop, so nothing depends on where the text is cut.
  const std::string book = "once upon a time.there was a long story </s> of many words.";
  for (const std::string policy : {"full", "streaming-llm"}) {
    SCOPED_TRACE(policy);
    const auto asked = [&](const std::function<void(Conversation&)>& prepare, const std::string& question) {
      Conversation conversation(loaded.model, loaded.engine, options(12, policy));
      prepare(conversation);
      return conversation.ask(user(question)).answer.tokens;
    };
    const auto read = [&](Conversation& c) { (void)c.read_ahead(book); };
    const auto read_twice = [&](Conversation& c) {
      (void)c.read_ahead(book.substr(0, 17));
      (void)c.read_ahead(book.substr(17));
    };
    Conversation conversation(loaded.model, loaded.engine, options(12, policy));
    const std::size_t n_read = conversation.read_ahead(book).n_read;
    EXPECT_EQ(conversation.session()->tokens().size(), n_read);
    EXPECT_EQ(conversation.ahead(), book);
    conversation.save(path);
    const Turn turn = conversation.ask(user("who"));
    EXPECT_FALSE(turn.read_again);
    EXPECT_LT(turn.n_read, 20U);
    EXPECT_EQ(conversation.messages()[1].content, book + "who");
    EXPECT_EQ(conversation.ahead(), "");
    if (policy == "full") {
      EXPECT_EQ(asked([](Conversation&) {}, book + "who"), turn.answer.tokens);
      EXPECT_EQ(asked(read_twice, "who"), turn.answer.tokens);
    }
    EXPECT_EQ(asked(read, "who"), turn.answer.tokens);

    Conversation opened(loaded.model, loaded.engine, {.generation = greedy(12)}, Snapshot(path));
    EXPECT_EQ(opened.ahead(), book);
    EXPECT_EQ(opened.ask(user("who")).answer.tokens, turn.answer.tokens);
  }
}

TEST_P(ConversationCheckpoints, UndoKeepsWhatWasReadAheadOfAQuestion) {
  const TemporaryFolder folder;
  const std::string path = folder.path("book.kv"), book = "once upon a time.there was a long story of many words.";
  Loaded loaded(chatting());
  ConversationOptions making = with_checkpoints(GetParam());
  making.saved_checkpoint_bytes = kPlenty;
  Conversation conversation(loaded.model, loaded.engine, making);
  (void)conversation.read_ahead(book.substr(0, 17));
  (void)conversation.read_ahead(book.substr(17));
  const Tokens read = conversation.session()->tokens();
  const Turn first = conversation.ask(user("who"));
  conversation.save(path);
  EXPECT_FALSE(conversation.retry().read_again);

  const auto forgets = [&](Conversation& asked) {
    EXPECT_TRUE(asked.undo());
    EXPECT_EQ(asked.ahead(), book);
    EXPECT_EQ(contents(asked), std::vector<std::string>{"be brief"});
    EXPECT_EQ(asked.session()->tokens(), read);
    EXPECT_FALSE(asked.undo());
    const Turn again = asked.ask(user("who"));
    EXPECT_FALSE(again.read_again);
    EXPECT_EQ(again.answer.tokens, first.answer.tokens);
    EXPECT_EQ(asked.messages()[1].content, book + "who");
  };
  forgets(conversation);
  Conversation opened(loaded.model, loaded.engine, making, Snapshot(path));
  forgets(opened);
}

TEST(Conversation, UndoReadsTheBookAgainWhereNoCopyOfItIsKept) {
  Loaded loaded(chatting());
  const std::string book = "once upon a time.there was a long story of many words.";
  Conversation conversation(loaded.model, loaded.engine, options());
  (void)conversation.read_ahead(book);
  (void)conversation.ask(user("who"));
  (void)conversation.read_ahead("and then");
  EXPECT_FALSE(conversation.retry().answer.tokens.empty());
  EXPECT_EQ(conversation.ahead(), "and then");
  EXPECT_TRUE(conversation.undo());
  EXPECT_EQ(conversation.ahead(), book + "and then");
  EXPECT_TRUE(conversation.ask(user("who")).read_again);
  EXPECT_EQ(conversation.messages()[1].content, book + "and thenwho");
}

// Whose messages take the conversation's place says what they are.
TEST(Conversation, OfAnEditedQuestionNothingWasReadAhead) {
  Loaded loaded(chatting());
  Conversation conversation(loaded.model, loaded.engine, options());
  (void)conversation.read_ahead("once upon a time.");
  (void)conversation.ask(user("who"));
  std::vector<Message> edited = conversation.messages();
  edited.resize(2);
  edited[1].content = "once there was a king. who";
  (void)conversation.answer(edited);
  EXPECT_TRUE(conversation.undo());
  EXPECT_EQ(conversation.ahead(), "");
}

TEST(Conversation, AFileOfBeforeOpensWithoutWhatWasReadAheadOfItsQuestions) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  Loaded loaded(chatting());
  Conversation conversation(loaded.model, loaded.engine, options());
  (void)conversation.read_ahead("once upon a time.");
  (void)conversation.ask(user("who"));
  conversation.save(path);
  std::string json = *Snapshot(path).note("conversation");
  const auto save_as = [&](const std::string& begun) {
    const std::size_t at = json.find("\"begun_ahead\":["), end = json.find("],", at) + 2;
    ASSERT_NE(at, json.npos);
    const SnapshotNote note{"conversation", json.substr(0, at) + begun + json.substr(end)};
    conversation.session()->save(path, {&note, 1});
  };
  const auto open = [&] {
    Conversation opened(loaded.model, loaded.engine, {.generation = greedy(1)}, Snapshot(path));
    EXPECT_TRUE(opened.undo());
    return opened.ahead();
  };
  save_as("");
  EXPECT_EQ(open(), "");
  save_as(R"("begun_ahead":[{"message":1,"bytes":4}],)");
  EXPECT_EQ(open(), "once");
  for (const char* wrong : {R"("begun_ahead":[{"message":9,"bytes":4}],)",
                            R"("begun_ahead":[{"message":1,"bytes":99}],)", R"("begun_ahead":4,)"}) {
    save_as(wrong);
    EXPECT_NE(refusal(Error::Kind::kInput, open), "") << wrong;
  }
}

TEST(Conversation, ATemplateThatChangesMessagesCannotBeReadAhead) {
  Loaded loaded(chatting("{% for m in messages %}{{ m.content | upper }}{% endfor %}"));
  Conversation conversation(loaded.model, loaded.engine, options());
  EXPECT_TRUE(
      contains(refusal(Error::Kind::kInput, [&] { (void)conversation.read_ahead("once"); }), "one that changes them"));
  EXPECT_EQ(conversation.ahead(), "");
}

}  // namespace
}  // namespace lacake
