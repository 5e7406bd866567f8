#include "lacake/engine.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <thread>

#include "engine/decode.h"
#include "engine/engine_state.h"
#include "engine/plan.h"
#include "engine/prefill_job.h"
#include "engine/run.h"
#include "engine/session_state.h"
#include "lacake/error.h"

namespace lacake {

const char* prefill_name(PrefillMode mode) { return mode == PrefillMode::kExact ? "exact" : "streaming"; }

CacheTypes CacheTypes::parse(std::string_view text) {
  CacheTypes types;
  const std::size_t comma = text.find(',');
  types.k = std::string(text.substr(0, comma));
  types.v = comma == std::string_view::npos ? types.k : std::string(text.substr(comma + 1));
  for (const std::string& type : {types.k, types.v}) {
    if (std::find(kNames.begin(), kNames.end(), type) == kNames.end()) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "kv_type",
                   .expected = fmt::format("{}, or one for K and one for V (q8_0,f16)", fmt::join(kNames, ", ")),
                   .found = fmt::format("\"{}\"", text)});
    }
  }
  return types;
}

std::string CacheTypes::text() const { return k == v ? k : k + "," + v; }

namespace {

int thread_count(int wanted) { return wanted > 0 ? wanted : std::max(1, (int)std::thread::hardware_concurrency()); }

[[noreturn]] void refuse_session(const std::string& expected, const std::string& found) {
  throw Error({.kind = Error::Kind::kState, .subject = "session", .expected = expected, .found = found});
}

// Throws Error(kState) unless these are different open sessions of this engine. `session_at(i)` is not looked into.
template <class SessionAt>
void check_sessions(const EngineState& engine, std::size_t n, const SessionAt& session_at) {
  for (std::size_t i = 0; i < n; ++i) {
    const Session* session = session_at(i);
    if (!engine.owns(session)) {
      refuse_session("an open one of this engine", session ? "one that is closed or another engine's" : "none");
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (session_at(j) == session) refuse_session("each once", "one twice");
    }
  }
}

std::unique_ptr<PrefillJob::State> begin_prefill(EngineState& engine, std::span<Session* const> sessions,
                                                 std::span<const Token> tokens, PrefillOptions options) {
  if (sessions.empty()) refuse_session("one or more to read into", "none");
  check_sessions(engine, sessions.size(), [&](std::size_t i) { return sessions[i]; });
  for (Session* session : sessions) {
    const SessionState& s = session->state();
    s.check_segment(tokens, options);
    if (sessions.size() == 1) continue;
    if (s.n_past() > 0) refuse_session("new ones, to read one prompt together", "one that was fed before");
    if (s.options().prefill != PrefillMode::kExact) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "prefill",
                   .expected = "exact for sessions that read one prompt together",
                   .found = "streaming"});
    }
  }
  return std::make_unique<PrefillJob::State>(engine, sessions, tokens, std::move(options));
}

}  // namespace

bool run_prefill(EngineState& engine, std::span<Session* const> sessions, std::span<const Token> tokens,
                 const PrefillOptions& options) {
  const auto job = begin_prefill(engine, sessions, tokens, options);
  while (job->advance()) continue;
  return job->finished();
}

// Everything is checked before anything changes.
void step_batch(EngineState& engine, std::span<const Engine::Next> batch) {
  if (batch.empty()) return;
  check_sessions(engine, batch.size(), [&](std::size_t i) { return batch[i].session; });
  for (const Engine::Next& next : batch) next.session->state().check_step(next.token);
  run_step(engine, batch);
}

Engine::Engine(const Model& model, const Options& options)
    : state_(std::make_unique<EngineState>(model, thread_count(options.threads),
                                           attention::parse_method(options.attention), options.kv_memory)) {}
Engine::~Engine() { assert(state_->sessions.empty()); }

int Engine::threads() const { return state_->place.threads(); }

SessionPlan Engine::plan(const SessionOptions& options) const {
  return plan_session(*state_, with_settings_at_opening(*state_, options));
}

SessionOptions Engine::settled(const SessionOptions& options) const {
  return with_settings_at_opening(*state_, options);
}

std::unique_ptr<Session> Engine::open(const SessionOptions& options) {
  return make(with_settings_at_opening(*state_, options));
}

std::unique_ptr<Session> Engine::make(const SessionOptions& options) {
  state_->sessions.reserve(state_->sessions.size() + 1);
  return std::unique_ptr<Session>(new Session(std::make_unique<SessionState>(*state_, options)));
}

std::unique_ptr<Session> Engine::fork(const Session& session) {
  check_sessions(*state_, 1, [&](std::size_t) { return &session; });
  session.state().check_ready();
  std::unique_ptr<Session> copy = make(session.options());
  copy->state().assign(session.state());
  return copy;
}

void Engine::step(std::span<const Next> batch) { step_batch(*state_, batch); }

std::unique_ptr<PrefillJob> Engine::start_prefill(std::span<Session* const> sessions, std::span<const Token> tokens,
                                                  PrefillOptions options) {
  return std::unique_ptr<PrefillJob>(new PrefillJob(begin_prefill(*state_, sessions, tokens, std::move(options))));
}

bool Engine::prefill(std::span<Session* const> sessions, std::span<const Token> tokens, const PrefillOptions& options) {
  return run_prefill(*state_, sessions, tokens, options);
}

KvMemoryUse Engine::kv_memory() const {
  const KvPool& pool = state_->kv_pool;
  KvMemoryUse use{.reserved = pool.reserved(),
                  .leased = pool.leased(),
                  .free = pool.has_reservation() ? pool.free() : 0,
                  .n_sessions = state_->sessions.size()};
  for (const Session* session : state_->sessions) use.held += session->use().held_bytes;
  return use;
}

}  // namespace lacake
