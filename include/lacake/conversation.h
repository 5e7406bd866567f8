#pragma once

// Questions and answers over one session, of which only what is new is fed.
//
//     lacake::Conversation conversation(model, engine, {.session = sized, .opening = {{"system", "Be brief."}}});
//     const lacake::Turn turn = conversation.ask({"user", "Why is the sky blue?"});
//     std::cout << turn.answer.text;
//     conversation.save("sky.kv");
//
// In another process it goes on, nothing read again:
//
//     lacake::Conversation conversation(model, engine, {}, lacake::Snapshot("sky.kv"));
//
// Checkpoints. A cache from which entries went cannot be cut back to what it was some messages ago. So that a question
// can be asked again or changed without reading everything, a conversation keeps copies of its session: before each
// question and before each answer, as long as they fit `checkpoint_bytes`. When they no longer fit, the copy is dropped
// whose loss costs the least reading: the two newest go last, and older ones become sparser (docs/snapshots.md has
// figures). Whatever is asked goes on from the latest copy that is, text for text, the beginning of the conversation as
// it is now.
//
// Threads: as a Session: one thread at a time, and no other call into its engine at the same time.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/generation.h"
#include "lacake/snapshot.h"

namespace lacake {

class Openings;  // src/generation/openings.h: for the library's own use

struct ConversationOptions {
  SessionOptions session = {};        // sized_for_conversation() makes one
  GenerationOptions generation = {};  // of every answer, its seed too
  ChatOptions chat = {};              // tools, thinking, ... of every question
  std::vector<Message> opening = {};  // what stands before the first question
  // Messages are fed as they are, a new line between them, without chat template. Needed for a model that has none.
  bool raw = false;
  bool parse_special = false;  // special tokens' texts in messages are the tokens
  // Memory for checkpoints, beside the session's. 0: none are kept.
  std::uint64_t checkpoint_bytes = 0;
  // How many bytes of them save() keeps beside the session, so that editing costs no more in another process. 0: none.
  std::uint64_t saved_checkpoint_bytes = 0;
  // Conversations that have these in common read what all of them begin with (system message, tools) once: the first
  // of them reads it, by itself, before the question, so that an answer does not depend on who read it. The others get
  // a copy. Null: each reads all of its own. REQUIRES: those of a group have the same `session`, but for its lengths.
  std::shared_ptr<Openings> openings = {};
  std::string opening_group = {};
  // What stands before the first question always stays, under a policy that drops entries (its parameter `pinned`). A
  // question throws Error(kCapacity) about `opening` where that leaves the policy less than a quarter of its entries.
  bool pins_opening = false;
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
  std::size_t n_held = 0;  // tokens of the conversation that the session held already
  double read_ms = 0;
  // The whole conversation was read again, because the session did not hold the beginning of what the chat template
  // writes now. Templates rewrite earlier turns (they leave the reasoning of old answers out, say), answers are cut
  // before a stop string, and an answer may have been lost to an error.
  bool read_again = false;

  // False: it was stopped before its answer began, and left no trace.
  bool answered() const { return answer.finish != Finish::kCancelled || !answer.tokens.empty(); }
};

// How a question is answered.
struct Asking {
  GenerationOptions generation = {};
  ChatOptions chat = {};
  std::size_t n_answers = 1;  // that many, each from a session of its own; the first becomes part of the conversation
};

// A question on its way to its answer, for who serves many conversations with one engine. Nothing happens but in these
// calls, so its owner may wait between them, and advance others meanwhile:
//
//     Reply reply = conversation.begin(messages, asking);
//     while (reply.read()) serve_others();
//     write_answers(engine, reply.writing());  // or all replies' writing in one Engine::step a token
//     const Turn turn = reply.end();
//
// A Reply that is destroyed before end() leaves the messages as they were. If begin() was given an edited history, the
// cache has lost what followed the edit; that is read again when it is next needed. While it lives nothing else may be
// done with its conversation, which outlives it.
class Reply {
 public:
  ~Reply();
  Reply(Reply&&) noexcept;
  Reply& operator=(Reply&&) noexcept;

  // One bounded step of reading (PrefillJob::advance). True if there is more to read. Throws what that throws, and
  // Error(kCapacity) where there is no memory for the sessions of more than one answer; it can only be dropped then.
  bool read();
  bool reading() const;
  std::size_t n_to_feed() const;  // tokens of the question's prompt that the session does not hold
  std::size_t n_to_read() const;  // these and the repeat probes known so far: what n_read() goes up to
  double n_read() const;          // work done, in tokens
  // The beginning that is being read now and that other conversations will copy (ConversationOptions::openings); empty
  // if there is none. Valid until the next call of read().
  std::string_view reading_opening() const;

  // The answers, and the session in which each goes on. REQUIRES: !reading().
  std::span<const Writing> writing() const;

  // What is known of the turn: all but the answer, from the beginning.
  const Turn& turn() const;
  // The first answer, finished or cut short here, becomes part of the conversation, unless it was cancelled before its
  // first token. REQUIRES: !reading(). Not to be called twice.
  Turn end();

  struct State;  // for the library's own use

 private:
  friend class Conversation;
  explicit Reply(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class Conversation {
 public:
  // Borrows model, engine and generation.cancel. Throws what Engine::open throws.
  Conversation(const Model& model, Engine& engine, ConversationOptions options);
  // Goes on with a saved conversation, with as many of its checkpoints as may be kept. Its session, opening, `raw` and
  // `parse_special` come from the file; all other options apply. Throws what Engine::open throws, and Error(kInput)
  // where the file holds no conversation.
  Conversation(const Model& model, Engine& engine, ConversationOptions options, const Snapshot& snapshot);
  ~Conversation();
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  // Adds a message and answers it. A session goes on only where it holds, text for text, the beginning of the
  // conversation as the template writes it now. White space around the last answer, which templates strip, is the only
  // difference that is ignored.
  // A question that is refused or stopped before its answer begins, and one whose answer ends in an error, leaves the
  // messages as they were, and the next question may be asked. Throws Error(kCapacity) where it does not fit, what
  // Model::chat and Engine::open throw, and what the hooks throw.
  Turn ask(const Message& question, const ConversationHooks& hooks = {});

  // Answers the last of these messages, which take the place of the conversation's own: what a client sends that has
  // edited something, dropped reasoning from old answers, or holds the conversation itself. As ask() in all else.
  Turn answer(std::vector<Message> messages, const ConversationHooks& hooks = {});
  // The same in bounded steps. Throws as ask(); the messages are then as they were. So is the cache where the text is
  // too long for the session; other errors may cost what followed an edit, which is read again.
  Reply begin(std::vector<Message> messages, const Asking& asking);
  // Of these messages, how many tokens need not be read to answer them. Costs a rendering of the template.
  std::size_t n_held_of(std::span<const Message> messages, const ChatOptions& chat) const;
  // Answers the last question once more, with another seed; the answer before is forgotten, and stays where this fails.
  // Throws Error(kState) where there was no question.
  Turn retry(const ConversationHooks& hooks = {});
  // Forgets the last question with its answer. False if there is none. What was read ahead of it stays, as ahead().
  bool undo();

  // Reads the beginning of the next question, a book say: it becomes one message with what is asked next. Policies are
  // told that more follows. May be called again, and the text is longer then. A read that was stopped or failed leaves
  // everything as it was. Throws as ask(), and Error(kInput) where the template rewrites what messages say.
  Turn read_ahead(const std::string& text, const ConversationHooks& hooks = {});

  // Keeps all of it in a file (lacake/snapshot.h). Throws Error(kState) where no session is open, and what
  // Session::save throws.
  void save(const std::string& path) const;
  std::string saved() const;          // the bytes of that file; throws as save() does
  std::uint64_t saved_bytes() const;  // how many they are

  // Another budget for the session as it is (Session::resize); one that is opened anew has the options' own again.
  // Every checkpoint is lost. Throws as that does, and Error(kState) where no session is open.
  void resize(const Budget& budget);

  // Forgets everything but the opening.
  void clear();

  const std::vector<Message>& messages() const;  // answers as they were parsed
  std::size_t n_turns() const;                   // questions that were answered
  const std::string& ahead() const;              // what was read of the next question
  std::uint64_t checkpoint_bytes() const;        // that checkpoints take now
  // Null where none is open: the next question opens it and reads the conversation again.
  const Session* session() const;

  struct State;  // for the library's own use

 private:
  Turn answer(std::vector<Message> messages, const GenerationOptions& generating, const ConversationHooks& hooks);
  std::unique_ptr<State> state_;
};

}  // namespace lacake
