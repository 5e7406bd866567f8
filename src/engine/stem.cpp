#include "engine/stem.h"

#include <utility>

#include "lacake/error.h"

namespace lacake {

SessionStem::SessionStem(std::unique_ptr<const State> state) : state_(std::move(state)) {}
SessionStem::~SessionStem() = default;
std::size_t SessionStem::n_tokens() const { return state_->copy.n_tokens; }
std::uint64_t SessionStem::bytes() const { return state_->copy.bytes() + state_->tokens.size() * sizeof(Token); }

std::unique_ptr<SessionStem> Session::stem() const {
  state_->check_ready();
  SessionStem::State stem{&state_->engine(), state_->options(), state_->tokens(), state_->copy_all()};
  return std::unique_ptr<SessionStem>(new SessionStem(std::make_unique<const SessionStem::State>(std::move(stem))));
}

std::unique_ptr<Session> Engine::open(const SessionStem& stem) {
  const SessionStem::State& from = stem.state();
  if (from.engine != state_.get()) {
    throw Error({.kind = Error::Kind::kState,
                 .subject = "stem",
                 .expected = "one of this engine",
                 .found = "another engine's"});
  }
  std::unique_ptr<Session> session = make(from.options);
  session->state().load(from.tokens, {});
  session->state().restore(from.copy);
  return session;
}

}  // namespace lacake
