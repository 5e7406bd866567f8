#include "lacake/engine.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <thread>

#include "engine/decode.h"
#include "engine/parts.h"
#include "engine/plan.h"
#include "engine/prefill.h"
#include "engine/session.h"
#include "lacake/error.h"

namespace lacake {

CacheTypes CacheTypes::parse(std::string_view text, std::string_view flag) {
  CacheTypes types;
  const std::size_t comma = text.find(',');
  types.k = std::string(text.substr(0, comma));
  types.v = comma == std::string_view::npos ? types.k : std::string(text.substr(comma + 1));
  for (const std::string& type : {types.k, types.v}) {
    if (std::find(kNames.begin(), kNames.end(), type) == kNames.end()) {
      throw Error(Error::Kind::kUsage,
                  fmt::format("{}: expected {}, or one for K and one for V (q8_0,f16), found \"{}\"", flag,
                              fmt::join(kNames, ", "), text));
    }
  }
  return types;
}

std::string CacheTypes::text() const { return k == v ? k : k + "," + v; }

Engine::Engine(const Model& model, const Options& options)
    : parts_(std::make_unique<Parts>(
          model, options.threads > 0 ? options.threads : std::max(1, (int)std::thread::hardware_concurrency()),
          attention::parse_method(options.attention, "--attention"))) {}
Engine::~Engine() = default;

int Engine::threads() const { return parts_->compute.threads(); }

SessionPlan Engine::plan(const SessionOptions& options) const { return plan_session(*parts_, options); }

std::unique_ptr<Session> Engine::open(const SessionOptions& options) {
  return std::make_unique<SessionImpl>(*this, options);
}

void Engine::step(std::span<const Next> batch) {
  if (batch.empty()) return;
  // Everything is checked before anything changes.
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const auto& s = static_cast<const SessionImpl&>(*batch[i].session);
    assert(std::none_of(batch.begin(), batch.begin() + (std::ptrdiff_t)i,
                        [&](const Next& before) { return before.session == &s; }));
    if (!s.has_room()) {
      throw Error(Error::Kind::kCapacity, fmt::format("KV cache: full after {} tokens, and policy {} drops nothing",
                                                      s.n_past(), s.options().policy.type->name));
    }
    if (!s.cache_index()) check_positions(*parts_, s.options(), s.policy(), s.n_past() + 1);
  }
  run_step(*parts_, batch);
}

// One pass serves the sessions that store rows in the same types: hidden states depend on how rows are rounded.
bool Engine::prefill(std::span<Session* const> sessions, std::span<const Token> tokens, const PrefillHooks& hooks) {
  std::vector<std::vector<SessionImpl*>> passes;
  for (Session* session : sessions) {
    auto* s = static_cast<SessionImpl*>(session);
    s->check_segment(tokens.size());
    const auto same = [&](const std::vector<SessionImpl*>& pass) {
      return pass[0]->options().types.text() == s->options().types.text();
    };
    const auto pass = std::find_if(passes.begin(), passes.end(), same);
    if (pass == passes.end()) {
      passes.push_back({s});
    } else {
      pass->push_back(s);
    }
  }
  PrefillProgress progress(hooks, tokens.size() * passes.size());
  PrefillHooks later = hooks;
  later.all_logits = {};
  for (std::size_t i = 0; i < passes.size(); ++i) {
    if (!run_segment(*parts_, passes[i], tokens, i == 0 ? hooks : later, 0, progress)) return false;
  }
  return true;
}

}  // namespace lacake
