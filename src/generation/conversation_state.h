#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generation/held_text.h"
#include "lacake/chat.h"

namespace lacake {

// A moment to go back to.
struct HeldMoment {
  std::size_t n_messages = 0;  // of the conversation then, without the question that was being answered
  HeldText held;
};

// A question that begins with what was read before it was known.
struct BegunAhead {
  std::size_t message = 0;  // its place among the messages
  std::size_t n_bytes = 0;  // of its text, the first that were read ahead
};

// What a conversation is beside its session: all of it that a file keeps.
struct ConversationState {
  bool raw = false;            // ConversationOptions
  bool parse_special = false;  // likewise
  std::vector<Message> messages;
  std::size_t n_opening = 0;            // of these, the first that are the conversation's opening
  std::string ahead;                    // the beginning of the next question, which was read already
  std::vector<BegunAhead> begun_ahead;  // of the messages, so that undo() keeps what was read
  HeldText held;
  std::size_t n_retries = 0;        // of the last question: each has a seed of its own
  std::vector<HeldMoment> moments;  // of the session's checkpoints in the file, in their order
};

// As JSON; docs/snapshots.md has the fields. Long texts that `text` has too, what the session was fed as text, are
// written as a place in it: a book is in the file once.
std::string to_json(const ConversationState& state, std::string_view text);
// The same again. `where` stands for it in errors: throws Error(kInput) where it is no conversation.
ConversationState conversation_from(std::string_view json, std::string_view text, const std::string& where);

}  // namespace lacake
