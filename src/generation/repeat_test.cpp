#include "generation/repeat.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "generation/test_generation.h"
#include "lacake/conversation.h"

namespace lacake {
namespace {

constexpr const char* kBook =
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty and so on until all of them have come";

SessionOptions zipped(const std::string& settings = "chunk=100", std::size_t n = 300) {
  return with("kvzip:" + settings, "64", "f32", PrefillMode::kExact, n, 20);
}

std::string text_of_probe(const Loaded& loaded, const Probe& probe) {
  std::string text;
  for (const Token token : probe.tokens) text += loaded.model.piece(token, true);
  return text;
}

// White space is the tokenizer's affair.
std::string without_spaces(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  return text;
}

TEST(RepeatProbes, TellTheModelToRepeatEachChunkAsItsAnswer) {
  Loaded loaded(chatting());
  const Message messages[] = {{.role = "user", .content = kBook}};
  const ChatPrompt prompt = loaded.model.chat(messages);
  const RepeatedText text = repeated_text(loaded.model, prompt.text, prompt.tokens.size(), true);
  const auto between = [&](std::size_t first, std::size_t last) {
    std::string words;
    for (std::size_t i = first; i < last; ++i) words += loaded.model.piece(prompt.tokens[i], true);
    return words;
  };
  EXPECT_EQ(between(0, text.first), "<s> user");
  EXPECT_EQ(between(text.first, text.last), " " + std::string(kBook));
  const auto session = loaded.engine.open(zipped());
  Session* const sessions[] = {session.get()};
  const std::vector<Probe> probes = repeat_probes(loaded.model, sessions, prompt);
  ASSERT_EQ(probes.size(), 2u);
  // The test's tokenizer puts a space in front of every text.
  const std::string turn = "</s><s> assistant ";
  EXPECT_EQ(text_of_probe(loaded, probes[0]),
            " \n\nRepeat the previous context exactly." + turn + between(text.first, text.first + 100));
  EXPECT_EQ(text_of_probe(loaded, probes[1]), " \n\nRepeat the part of the previous context exactly, starting with" +
                                                  between(text.first + 92, text.first + 100) + turn +
                                                  between(text.first + 100, text.last));
  EXPECT_EQ(probes[0].first, text.first);
  EXPECT_EQ(probes[0].last, text.first + 100);
  EXPECT_EQ(probes[1].last, text.last);
}

TEST(RepeatProbes, OfATextWithoutATemplateHaveNoTurn) {
  Loaded loaded(small());
  const ChatPrompt prompt = plain_prompt(loaded.model, kBook, false);
  const auto session = loaded.engine.open(zipped("chunk=1000"));
  Session* const sessions[] = {session.get()};
  const auto probes = repeat_probes(loaded.model, sessions, prompt);
  ASSERT_EQ(probes.size(), 1u);
  EXPECT_EQ(without_spaces(text_of_probe(loaded, probes[0])),
            without_spaces(std::string("Repeat the previous context exactly.") + kBook));
}

TEST(RepeatProbes, AreNoneWhereNothingIsCutOrNobodyAsks) {
  Loaded loaded(small());
  const Tokens tokens = random_tokens(loaded.tiny, 200, 1);
  const RepeatedText all{0, 200, false};
  const auto zip = loaded.engine.open(zipped()), other = loaded.engine.open(with("keydiff", "64", "f32"));
  Session *const sessions[] = {zip.get()}, *const others[] = {other.get()};
  EXPECT_TRUE(repeat_probes(loaded.model, others, tokens, all).empty());
  EXPECT_TRUE(repeat_probes(loaded.model, sessions, std::span(tokens).first(50), {0, 50, false}).empty());
  EXPECT_EQ(repeat_probes(loaded.model, sessions, tokens, all).size(), 2u);
  // A later turn only where it is long.
  zip->prefill(tokens);
  EXPECT_TRUE(repeat_probes(loaded.model, sessions, tokens, all).empty());
  EXPECT_EQ(repeat_probes(loaded.model, sessions, random_tokens(loaded.tiny, 300, 1), {0, 300, false}).size(), 3u);
}

TEST(RepeatProbes, OfAStreamedTextAreRefused) {
  Loaded loaded(small());
  SessionOptions o = zipped();
  o.prefill = PrefillMode::kStreaming;
  const auto session = loaded.engine.open(o);
  Session* const sessions[] = {session.get()};
  const std::string said = refusal(Error::Kind::kUsage, [&] {
    repeat_probes(loaded.model, sessions, random_tokens(loaded.tiny, 200, 1), {0, 200, false});
  });
  EXPECT_EQ(said,
            "policy kvzip: expected prefill exact, so that the model can repeat the text, found prefill streaming");
  EXPECT_THROW(require_exact_for_repeat(o, loaded.model.facts().policy_attention()), Error);
  EXPECT_NO_THROW(require_exact_for_repeat(zipped(), loaded.model.facts().policy_attention()));
}

TEST(RepeatProbes, OfDifferentChunksCannotBeReadTogether) {
  Loaded loaded(small());
  const auto a = loaded.engine.open(zipped("chunk=100")), b = loaded.engine.open(zipped("chunk=50"));
  Session* const sessions[] = {a.get(), b.get()};
  EXPECT_TRUE(
      contains(refusal(Error::Kind::kUsage,
                       [&] {
                         repeat_probes(loaded.model, sessions, random_tokens(loaded.tiny, 200, 1), {0, 200, false});
                       }),
               "chunks of 50"));
}

std::vector<std::vector<std::int64_t>> kept(const Session& session) {
  std::vector<std::vector<std::int64_t>> all;
  for (int layer = 0; layer < 4; ++layer) {
    for (int head = 0; head < 2; ++head) all.push_back(session.kept(layer, head));
  }
  return all;
}

// What a conversation reads ahead is read with its repeat, and its progress counts that.
TEST(Repeat, OfAConversationIsThatOfTheText) {
  Loaded loaded(chatting());
  Conversation conversation(loaded.model, loaded.engine, {.session = zipped(), .generation = greedy(5)});
  std::size_t most = 0, all = 0;
  const Turn read = conversation.read_ahead(kBook, {.prompt_progress = [&](std::size_t done, std::size_t total) {
                                              most = std::max(most, done);
                                              all = total;
                                              return true;
                                            }});
  EXPECT_EQ(read.n_read, conversation.session()->tokens().size());
  EXPECT_GT(all, 2 * read.n_read);
  EXPECT_LE(most, all);

  const auto session = loaded.engine.open(zipped());
  Session* const sessions[] = {session.get()};
  const std::vector<Token>& tokens = conversation.session()->tokens();
  // "<s> user" stands before it.
  const std::size_t before = loaded.model.tokenize("<s>user", true, false).size();
  const auto probes = repeat_probes(loaded.model, sessions, tokens, {before, tokens.size(), true});
  EXPECT_EQ(probes.size(), 2u);
  session->prefill(tokens, {.probes = probes, .more_follows = true});
  EXPECT_EQ(kept(*session), kept(*conversation.session()));
  const auto newest = loaded.engine.open(zipped());
  newest->prefill(tokens);
  EXPECT_NE(kept(*newest), kept(*session));

  EXPECT_EQ(conversation.ask({.role = "user", .content = " why"}).answer.tokens.size(), 5u);
}

TEST(Repeat, OfAPromptThatIsAnsweredIsRead) {
  Loaded loaded(chatting());
  const Message messages[] = {{.role = "user", .content = kBook}};
  const ChatPrompt prompt = loaded.model.chat(messages);
  const auto a = loaded.engine.open(zipped()), b = loaded.engine.open(zipped());
  std::size_t all = 0;
  (void)generate(loaded.model, loaded.engine, *a, prompt, greedy(1),
                 {.prompt_progress = [&](std::size_t, std::size_t n) {
                   all = n;
                   return true;
                 }});
  Session* const sessions[] = {b.get()};
  const auto probes = repeat_probes(loaded.model, sessions, prompt);
  b->prefill(prompt.tokens, {.probes = probes});
  EXPECT_EQ(kept(*a), kept(*b));
  EXPECT_EQ(all, prompt.tokens.size() + probes[0].tokens.size() + probes[1].tokens.size());
}

}  // namespace
}  // namespace lacake
