#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/prefill_pass.h"

namespace lacake {

// What a PrefillJob is made of: the passes that read its tokens, one after the other, and the way back.
struct PrefillJob::State {
 public:
  // Everything was checked: the sessions are the engine's, differ, and can take the tokens. From here on they are
  // kReading, until the job is finished or gone.
  State(EngineState& engine, std::span<Session* const> sessions, std::span<const Token> tokens, PrefillOptions options);
  ~State();

  bool advance();
  bool finished() const { return end_ == End::kFinished; }
  std::size_t n_tokens() const { return total_; }
  double n_tokens_done() const { return work_done_ + (pass_ ? pass_->work_done() : 0); }
  std::uint64_t bytes() const { return memory_.bytes() + copy_bytes(); }
  std::uint64_t copy_bytes() const;
  const PrefillMemory& memory() const { return memory_; }

  // One of its sessions is being closed: takes everything back.
  void lose(const SessionState& session);

 private:
  // A segment for some of the sessions.
  struct Part {
    std::vector<SessionState*> sessions;
    std::size_t from = 0, to = 0;
    bool shows_logits = true;  // to all_logits
    bool last = true;          // of its sessions
  };
  void divide();
  void begin_pass();
  void keep_copies();
  void take_back();
  void end(bool finished);

  EngineState& engine_;
  std::vector<SessionState*> sessions_;
  std::vector<Token> tokens_;
  PrefillOptions options_;
  std::vector<Part> parts_;
  std::size_t total_ = 0;

  PrefillMemory memory_;
  std::vector<SessionCopy> copies_;  // by session, once it has begun
  std::size_t next_part_ = 0;
  std::unique_ptr<PrefillPass> pass_;
  double work_done_ = 0;  // of finished passes
  enum class End { kNone, kFinished, kTakenBack, kLost };
  End end_ = End::kNone;
};

}  // namespace lacake
