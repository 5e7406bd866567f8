#include "engine/prefill_job.h"
#include "engine/run.h"
#include "engine/session_state.h"

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
void Session::resize(const Budget& budget) { state_->resize(budget); }

std::vector<std::int64_t> Session::kept(int layer, int head) const {
  const auto positions = state_->cache().positions(layer, head);
  return {positions.begin(), positions.end()};
}

bool Session::prefill(std::span<const Token> tokens, const PrefillOptions& options) {
  Session* const self = this;
  return run_prefill(state_->engine(), {&self, 1}, tokens, options);
}

void Session::step(Token token) {
  const Engine::Next next{this, token};
  step_batch(state_->engine(), {&next, 1});
}

}  // namespace lacake
