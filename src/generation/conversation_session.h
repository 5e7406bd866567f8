#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "generation/checkpoints.h"
#include "generation/conversation_state.h"
#include "generation/openings.h"
#include "lacake/conversation.h"

namespace lacake {

// Of the snapshot's note that a conversation is kept in.
inline constexpr const char* kConversationNote = "conversation";

// First tokens that a session's policy lets stay because they are an opening's.
std::size_t pinned_of(const SessionOptions& session);

// A conversation's session: what it holds as text, the copies of it to go back to, from where a text can be read on.
struct Conversation::State {
  State(const Model& m, Engine& e, ConversationOptions o) : model(m), engine(e), options(std::move(o)) {}

  void open(std::size_t n_pinned = 0);

  // Options whose policy lets so many first tokens stay, or more where it was asked for more.
  SessionOptions pinning(std::size_t n_pinned) const;

  void close();

  void clear();

  // The text of a prompt and how its answer is read, without tokens: most of it was fed already.
  ChatPrompt render(std::span<const Message> messages, const ChatOptions& chat) const;

  // What stands in a prompt before the first question's words. 0: nothing, or nobody asks.
  struct OpeningSize {
    std::size_t n_bytes = 0, n_tokens = 0;
    bool is_shared() const { return n_tokens >= Openings::kLeastTokens; }
  };

  OpeningSize opening_size(std::span<const Message> messages, const PromptText& prompt, const ChatOptions& chat) const;

  // --- where to go on ------------------------------------------------------------------------------------------

  struct Checkpoint {
    std::size_t n_messages;  // of the conversation then: without the question that was being answered
    HeldText held;
    std::unique_ptr<SessionCheckpoint> session;
  };

  // From where a text can be read on, and the tokens that are missing there.
  struct Start {
    enum class From { kSession, kCheckpoint, kOpening, kNothing };
    From from = From::kNothing;
    std::size_t checkpoint = 0;
    std::size_t n_held = 0;
    std::vector<Token> tokens;
    std::shared_ptr<const Opening> opening = {};
    PromptText text = {};  // that is missing: of `tokens`, but for those of what was said already
  };

  Start start_of(const PromptText& text) const;

  // Throws Error(kCapacity or kInput) if the session has no room for start.tokens. To be called before go_to(), which
  // may drop what the session holds.
  void require_room(const Start& start) const;
  // Makes the session what `start` begins with; `opening` is that of a prompt of which nothing is held. True if
  // everything is read again.
  bool go_to(const Start& start, const OpeningSize& opening);

  // --- checkpoints ---------------------------------------------------------------------------------------------

  std::uint64_t checkpoint_bytes() const;

  std::vector<CheckpointSize> checkpoint_sizes() const;

  // Of the session as it is now, if there is none yet, at the cost of others where there is no room for all.
  void keep_checkpoint();

  void go_back(std::size_t checkpoint);

  // To before the question that came after the messages that are left, or to what was read ahead of it, if there is a
  // checkpoint of it: what is saved now is then what is said. Else the next question finds its way.
  void go_back_to_messages();

  // After a question that was read and has no answer. Without a checkpoint it cannot be taken out of the session.
  void take_back(std::size_t n_tokens, const HeldText& held);

  // --- reading and answering -----------------------------------------------------------------------------------

  // Does a later prompt begin with all of this one? Not where the template opens an answer otherwise than it writes it
  // down later: with a mark of reasoning, which it leaves out of old answers. Asked of a conversation of a letter, once
  // as long as the options stay the same.
  bool answer_start_lasts(const ChatOptions& chat);

  // How much of a prompt a later one will begin with: all of it, or all but the start of the answer.
  std::size_t lasting_bytes(std::span<const Message> messages, const PromptText& prompt, const ChatOptions& chat);

  // A text that is read at once.
  struct Part {
    PromptText text;  // from the beginning of the conversation
    bool is_opening = false;
  };

  // The prompt in parts that are read one after the other: first the opening, which others may begin with; and the end
  // by itself where a later prompt will begin with what stands before it only, so that there is a checkpoint to begin
  // from.
  std::vector<Part> parts_of(std::span<const Message> messages, const PromptText& prompt, const ChatOptions& chat,
                             const OpeningSize& opening);

  // What a caller hands over need not begin with the opening, nor with what was read ahead of a question.
  void take(std::vector<Message> messages);

  // How many bytes of a question were read ahead of it.
  std::size_t n_begun_ahead(std::size_t message) const;

  // What was read ahead became the beginning of this message, or of none.
  void ask_ahead(std::size_t message);

  // The text of the answer's tokens that were fed.
  std::string fed_text(const AnswerFormat& format, std::span<const Token> fed) const;

  // What the session holds after an answer, and what it will hold with the tokens that were chosen but not fed.
  void remember(const ChatPrompt& prompt, const Answer& answer, std::size_t n_read);

  // The messages up to the end of what was read ahead, as text.
  PromptText text_ahead(const std::string& ahead) const;

  // What a file has of it: the note beside the session, and checkpoints.
  struct Saved {
    SnapshotNote note;
    std::vector<const SessionCheckpoint*> checkpoints;
  };

  // Throws Error(kState) where no session is open.
  void require_session() const;

  Saved saved() const;

  // The session of a file, with as many of its checkpoints as may be kept.
  void open(const Snapshot& snapshot);

  const Model& model;
  Engine& engine;
  ConversationOptions options;
  std::unique_ptr<Session> session;
  ConversationState own;
  std::vector<Checkpoint> checkpoints;                        // of this session, ascending
  std::size_t n_turns = 0;                                    // answers, without those of the opening
  std::optional<std::pair<ChatOptions, bool>> known_to_last;  // answer_start_lasts(), as it was asked last
};

}  // namespace lacake
