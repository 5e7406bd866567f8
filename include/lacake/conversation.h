#pragma once

// Questions and answers over one session, of which only what is new is fed.
//
//     lacake::Conversation conversation(model, engine, {.session = sized, .opening = {{"system", "Be brief."}}});
//     const lacake::Turn turn = conversation.ask({"user", "Why is the sky blue?"});
//     std::cout << turn.answer.text;
//
// Threads: as a Session: one thread at a time, and no other call into its engine at the same time.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/generation.h"

namespace lacake {

struct ConversationOptions {
  SessionOptions session = {};        // sized_for_conversation() makes one
  GenerationOptions generation = {};  // of every answer, its seed too
  ChatOptions chat = {};              // tools, thinking, ... of every question
  std::vector<Message> opening = {};  // what stands before the first question
  // Turns as they are, a new line between, without chat template. A model that has none needs it.
  bool raw = false;
  bool parse_special = false;  // special tokens' texts in messages are the tokens
};

struct ConversationHooks {
  std::function<bool(std::size_t done, std::size_t total)> prompt_progress = {};
  std::function<void(std::string_view text)> on_text = {};
  // Called before the whole conversation, of so many tokens, is read again (Turn::read_again).
  std::function<void(std::size_t n_tokens)> read_again = {};
};

// What a question came to.
struct Turn {
  Answer answer;           // kCancelled and empty where the question was stopped while it was read
  std::size_t n_read = 0;  // tokens that were fed for the question
  double read_ms = 0;
  // The whole conversation was read again, because the session did not hold the beginning of what the chat template
  // writes now. Templates rewrite earlier turns (they leave the reasoning of old answers out, say), answers are cut
  // before a stop string, and an answer may have been lost to an error.
  bool read_again = false;
};

class Conversation {
 public:
  // Borrows model, engine and generation.cancel. Throws what Engine::open throws.
  Conversation(const Model& model, Engine& engine, ConversationOptions options);
  ~Conversation();
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  // Adds a message and answers it. A session goes on only where it holds, text for text, the beginning of the
  // conversation as the template writes it now; white space around the last answer, which templates strip, is the one
  // difference that counts for none.
  // A question that is refused or stopped before its answer begins, and one whose answer ends in an error, leaves the
  // messages as they were, and the next question may be asked. Throws Error(kCapacity) where it does not fit, what
  // Model::chat and Engine::open throw, and what the hooks throw.
  Turn ask(const Message& question, const ConversationHooks& hooks = {});

  // Forgets everything but the opening.
  void clear();

  const std::vector<Message>& messages() const;  // answers as they were parsed
  std::size_t n_turns() const;                   // questions that were answered
  // Null where none is open: the next question opens it and reads the conversation again.
  const Session* session() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lacake
