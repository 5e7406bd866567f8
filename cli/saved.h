#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "base/files.h"
#include "lacake/conversation.h"
#include "options.h"

namespace lacake::cli {

// Conversations in files, as options name them.

// Throws Error(kUsage) for an option that says otherwise than the file what is the file's to say: its policy, budget,
// types, prefill and chunk. The same as in the file may be said again, so that one command line serves the
// first time and every other.
void require_same(const Options& options, Command command, const Snapshot& snapshot);
// The same of the policy, exactly: one that takes settings from the model and the budget (Engine::settled) may be given
// without them, as it was when the file was begun. What require_same leaves to it until a model is open.
void require_same_policy(const Options& options, Command command, const Snapshot& snapshot, const Engine& engine);

// Memory for checkpoints where the user does not say: that of two, with which the last answer can be asked for again
// and the last question be changed.
std::uint64_t usual_checkpoint_bytes(const SessionPlan& plan);

// The file of --session, as long as a conversation of it goes on.
class SessionFile {
 public:
  // Takes what is there now for what is known of it: to be made before it is opened. `otherwise`: what is said to a
  // user whose conversation cannot be saved there.
  SessionFile(std::string path, std::string otherwise);

  const std::string& path() const { return path_; }

  // Throws Error(kInput), and the file stays as it is, where another program has changed it since: its turns would be
  // lost. Of several programs that save one conversation at the same time the first does. Else as Conversation::save.
  void save(const Conversation& conversation);

 private:
  std::string path_, otherwise_;
  std::optional<FileMark> known_;
};

// What is said before a conversation is read again (ConversationHooks::read_again).
std::string read_again_line(std::size_t n_tokens);

// What the file is, in a line: "book.kv: 4891 tokens, policy keydiff, KV 22.5 MiB held of 22.5 MiB".
std::string saved_line(const Snapshot& snapshot);
// The same of a session that was just saved there.
std::string saved_line(const std::string& path, const Session& session);

}  // namespace lacake::cli
