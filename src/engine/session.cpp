#include "engine/checkpoint.h"
#include "engine/prefill_job.h"
#include "engine/run.h"
#include "engine/session_state.h"
#include "lacake/error.h"

namespace lacake {

Session::Session(std::unique_ptr<SessionState> state) : state_(std::move(state)) {
  state_->engine().sessions.push_back(this);
}

Session::~Session() {
  if (state_->status() == SessionStatus::kReading) state_->job()->lose(*state_);
  std::erase(state_->engine().sessions, this);
}

SessionStatus Session::status() const { return state_->status(); }
std::span<const float> Session::logits() const { return state_->logits(); }
const std::vector<Token>& Session::tokens() const { return state_->tokens(); }
const SessionOptions& Session::options() const { return state_->options(); }
const SessionPlan& Session::plan() const { return state_->plan(); }
CacheUse Session::use() const { return state_->use(); }
const Policy& Session::policy() const { return state_->policy(); }
std::size_t Session::repeat_chunk(std::size_t n_tokens) const { return state_->repeat_chunk(n_tokens); }
void Session::resize(const Budget& budget) { state_->resize(budget); }

std::vector<std::int64_t> Session::kept(int layer, int head) const {
  const auto positions = state_->cache().positions(layer, head);
  return {positions.begin(), positions.end()};
}

SessionCheckpoint::SessionCheckpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
SessionCheckpoint::~SessionCheckpoint() = default;
std::size_t SessionCheckpoint::n_tokens() const { return state_->copy.n_tokens; }
std::uint64_t SessionCheckpoint::bytes() const { return state_->copy.bytes(); }

std::unique_ptr<SessionCheckpoint> Session::checkpoint() {
  state_->check_ready();
  SessionCopy copy = state_->copy();
  return std::unique_ptr<SessionCheckpoint>(new SessionCheckpoint(std::make_unique<SessionCheckpoint::State>(
      SessionCheckpoint::State{std::move(copy), state_.get(), state_->mark()})));
}

std::uint64_t Session::checkpoint_bytes() const { return state_->copy_bytes(); }

void Session::go_back(const SessionCheckpoint& checkpoint) {
  state_->check_ready();
  const SessionCheckpoint::State& moment = *checkpoint.state_;
  if (moment.session != state_.get() || !moment.can_go_back()) {
    throw Error(
        {.kind = Error::Kind::kState,
         .subject = "checkpoint",
         .expected = "one of this session that is still valid: no go_back() to an earlier one and no resize() since",
         .found = "another"});
  }
  state_->restore(moment.copy);
  state_->forget_marks_behind(checkpoint.n_tokens());
}

void Session::require_room(std::size_t n_held, std::size_t n_new) const { state_->require_room(n_held, n_new); }

bool Session::prefill(std::span<const Token> tokens, const PrefillOptions& options) {
  Session* const self = this;
  return run_prefill(state_->engine(), {&self, 1}, tokens, options);
}

void Session::step(Token token) {
  const Engine::Next next{this, token};
  step_batch(state_->engine(), {&next, 1});
}

}  // namespace lacake
