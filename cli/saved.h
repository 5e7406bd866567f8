#pragma once

#include <cstddef>
#include <string>

#include "lacake/conversation.h"
#include "options.h"

namespace lacake::cli {

// Conversations in files, as options name them.

// Throws Error(kUsage) for an option that says otherwise than the file what is the file's to say: its policy, budget,
// types, prefill and chunk. The same as in the file may be said again, so that one command line serves the
// first time and every other.
void require_same(const Options& options, Command command, const Snapshot& snapshot);

// Memory for checkpoints where the user does not say: that of two, with which the last answer can be asked for again
// and the last question be changed.
std::uint64_t usual_checkpoint_bytes(const SessionPlan& plan);

// What is said before a conversation is read again (ConversationHooks::read_again).
std::string read_again_line(std::size_t n_tokens);

// What the file is, in a line: "book.kv: 4891 tokens, policy keydiff, KV 22.5 MiB held of 22.5 MiB".
std::string saved_line(const Snapshot& snapshot);
// The same of a session that was just saved there.
std::string saved_line(const std::string& path, const Session& session);

}  // namespace lacake::cli
