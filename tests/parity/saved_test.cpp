// Saved sessions and edited conversations of a real model: SmolLM2, or the file that LACAKE_SAVED_TEST_MODEL names.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "lacake/conversation.h"
#include "parity/texts.h"
#include "tools/sanitized.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

constexpr std::size_t kAfter = kSanitized ? 4 : 64;

std::string model_path() {
  const char* named = std::getenv("LACAKE_SAVED_TEST_MODEL");
  return named != nullptr ? named : quantised_model();
}

// A text of some hundred tokens, another for each number.
std::string passage(std::size_t number, std::size_t n_bytes) {
  static const std::string all = wikitext_and_news_text();
  return all.substr(number * n_bytes % (all.size() - n_bytes), n_bytes);
}

Token likeliest(std::span<const float> logits) {
  return (Token)(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

class SavedSession : public testing::TestWithParam<std::string> {};

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const PolicyType& type : policy_types()) {
    if (!type.needs_calibration) all.push_back(type.name);  // the model has none; engine/snapshot_test.cpp has
  }
  return all;
}

TEST_P(SavedSession, GivesTheSame64TokensAndLogitsBitForBit) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.kv");
  const Model model(model_path());
  Engine engine(model, {});
  const std::vector<Token> tokens = model.tokenize(passage(1, 3000), false, true);
  SessionOptions options{.policy = PolicySpec::parse(GetParam()), .prompt_tokens = tokens.size(), .new_tokens = 100};
  if (options.policy.type->bounded) options.budget = Budget::parse("256");
  const auto session = engine.open(options);
  session->prefill(tokens);
  session->save(path);
  const auto opened = engine.open(Snapshot(path));
  for (std::size_t i = 0; i < kAfter; ++i) {
    const auto expected = session->logits(), found = opened->logits();
    ASSERT_EQ(std::memcmp(expected.data(), found.data(), expected.size_bytes()), 0) << "after " << i << " tokens";
    const Token next = likeliest(expected);
    session->step(next);
    opened->step(next);
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, SavedSession, testing::ValuesIn(names()), [](const auto& policy) {
  std::string name = policy.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// 40 messages of about 8,000 tokens in all; then an old one is changed.
class EditedConversation : public testing::Test {
 protected:
  static constexpr int kTurns = 20;

  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "the unit tests take the same way with a model that is small enough for this";
  }
  static void SetUpTestSuite() {
    model_ = std::make_unique<Model>(model_path());
    engine_ = std::make_unique<Engine>(*model_, Engine::Options{});
  }
  static void TearDownTestSuite() {
    engine_.reset();
    model_.reset();
  }

  static ConversationOptions options() {
    ConversationOptions o;
    o.session = {.policy = PolicySpec::parse("trellis:positions=compacted"),
                 .budget = Budget::parse("512"),
                 .prompt_tokens = 8000,
                 .new_tokens = 1000};
    o.generation.sampling.temp = 0;
    o.generation.limits.answer = 24;
    o.raw = !model_->has_chat_template();
    // Room for sixteen copies.
    o.checkpoint_bytes = 16 * engine_->plan(o.session).memory.turn_copy;
    return o;
  }

  static Message question(int number) {
    return {.role = "user", .content = passage((std::size_t)number, 1400) + "\n\nWhat is this about?"};
  }

  static inline std::unique_ptr<Model> model_;
  static inline std::unique_ptr<Engine> engine_;
};

TEST_F(EditedConversation, ReadsNoMoreThanWhatCameAfterTheLastCheckpoint) {
  Conversation conversation(*model_, *engine_, options());
  std::vector<std::size_t> held;  // tokens before each question
  for (int i = 0; i < kTurns; ++i) {
    held.push_back(conversation.session()->tokens().size());
    const Turn turn = conversation.ask(question(i));
    EXPECT_FALSE(turn.read_again);
  }
  const std::vector<Message> all = conversation.messages();
  ASSERT_EQ(all.size(), 2u * kTurns);
  const std::size_t n_tokens = conversation.session()->tokens().size();
  std::printf("%zu messages, %zu tokens, copies %.1f MiB\n", all.size(), n_tokens,
              (double)conversation.checkpoint_bytes() / (1 << 20));

  EXPECT_EQ(conversation.retry().n_read, 0u);
  // From the end to the beginning: what is later than a message that was changed is gone.
  for (const std::size_t number : {39u, 30u, 10u}) {
    std::vector<Message> edited(all.begin(), all.begin() + (std::ptrdiff_t)(number | 1u));
    edited.back() = {.role = "user", .content = "Say one word about message " + std::to_string(number) + "."};
    const std::size_t common = held[number / 2];
    const Turn turn = conversation.answer(edited);
    EXPECT_FALSE(turn.read_again);
    std::printf("message %zu changed: %zu tokens before it, %zu held, %zu read\n", number, common, turn.n_held,
                turn.n_read);
    // At most as much again as lies between the change and the end, as docs/snapshots.md promises for 16 copies.
    EXPECT_LE(turn.n_held, common);
    EXPECT_LE(common - turn.n_held, n_tokens - common);
  }
}

}  // namespace
}  // namespace lacake
