#include "engine/session_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/immediate_edits.h"
#include "engine/reading_limits.h"
#include "lacake/error.h"

namespace lacake {

SessionState::SessionState(EngineState& engine, const SessionOptions& options)
    : engine_(engine),
      options_(options),
      plan_(plan_session(engine, options)),
      policy_(make_policy()),
      cache_(cache_shape(engine.model.hyperparameters, options.types), policy_->traits(), plan_.budget_bytes,
             engine.kv_pool, engine.place),
      observers_((std::size_t)engine.place.threads()) {
  if (attention::has_form(cache_.arena().shape().type_k)) engine_.key_forms.make(engine_.place);
  reserve_lanes();
}

bool SessionState::centers_keys() const {
  if (!attention::has_form(cache_.arena().shape().type_k)) return false;
  for (int layer = 0; layer < cache_.arena().shape().n_layer; ++layer) {
    if (key_form(layer).center) return true;
  }
  return false;
}

std::unique_ptr<Policy> SessionState::make_policy() const {
  return options_.policy.type->make(options_.policy.settings, engine_.layers.policy_shape(), plan_.cache_size);
}

void SessionState::clear() {
  policy_ = make_policy();
  cache_.clear();
  tokens_.clear();
  logits_.clear();
}

void SessionState::reserve_lanes() {
  const CacheShape& shape = cache_.arena().shape();
  std::vector<std::size_t> capacities(shape.n_lanes());
  for (int l = 0; l < shape.n_layer; ++l) {
    const LayerMap& layers = engine_.layers;
    for (int h = 0; h < shape.n_head_kv; ++h) {
      capacities[shape.lane(l, h)] =
          layers.slides(l) ? plan_.sliding_entries : policy_->reserve(layers.policy_layer(l), h);
    }
  }
  cache_.divide(capacities);
}

bool SessionState::has_room() const {
  const std::vector<int>& layers = engine_.layers.model_layers();
  return std::all_of(layers.begin(), layers.end(), [&](int l) { return cache_.has_room(l); });
}

void SessionState::check_ready() const {
  if (status_ == SessionStatus::kReady) return;
  const bool reading = status_ == SessionStatus::kReading;
  throw Error({.kind = Error::Kind::kState,
               .subject = "session",
               .expected = "one that is ready",
               .found = reading ? "one that reads a prompt" : "one that failed midway in a step",
               .remedy = reading ? "finish or drop its job first" : "close it"});
}

void SessionState::check_tokens(std::span<const Token> tokens) const {
  const int n_vocab = engine_.model.hyperparameters.n_vocab;
  for (const Token token : tokens) {
    if (token >= 0 && token < n_vocab) continue;
    throw Error({.kind = Error::Kind::kInput,
                 .subject = "token",
                 .expected = fmt::format("0 to {}", n_vocab - 1),
                 .found = fmt::format("{}", token)});
  }
}

void SessionState::check_step(Token token) const {
  check_ready();
  check_tokens({&token, 1});
  if (!has_room()) {
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = "KV cache",
                 .found = fmt::format("full after {} tokens, and policy {} evicts nothing", n_past(),
                                      options_.policy.type->name)});
  }
  if (!cache_index()) check_positions(engine_, options_, *policy_, n_past() + 1);
}

std::size_t SessionState::first_position() const {
  std::size_t first = cache_index() ? 0 : n_past();
  for (int l = 0; cache_index() && l < cache_.arena().shape().n_layer; ++l) first = std::max(first, cache_.length(l));
  return first;
}

std::size_t SessionState::repeat_chunk(std::size_t n_new) const {
  return lacake::repeat_chunk(engine_, options_, *policy_, first_position() + n_new);
}

void SessionState::check_segment(std::span<const Token> tokens, const PrefillOptions& given) const {
  check_ready();
  if (tokens.empty()) {
    throw Error({.kind = Error::Kind::kInput, .subject = "prompt", .expected = "one token or more", .found = "none"});
  }
  check_tokens(tokens);
  std::size_t longest_probe = 0;
  for (const Probe& probe : given.probes) {
    check_tokens(probe.tokens);
    longest_probe = std::max(longest_probe, probe.tokens.size());
    if (!probe.tokens.empty() && probe.first <= probe.last && probe.last <= tokens.size()) continue;
    throw Error({.kind = Error::Kind::kInput,
                 .subject = "probe",
                 .expected = fmt::format("one token or more that repeat some of the prompt's {}", tokens.size()),
                 .found = fmt::format("{} that repeat {} to {}", probe.tokens.size(), probe.first, probe.last)});
  }
  if (!given.probes.empty() && options_.prefill != PrefillMode::kExact) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "probe",
                 .expected = "`prefill` exact",
                 .found = "`prefill` streaming, whose chunks are compacted before the probe comes"});
  }
  if (options_.single_turn && n_past() > 0) {
    throw Error({.kind = Error::Kind::kState,
                 .subject = "session",
                 .expected = "no prompt after the first (`single_turn`)",
                 .found = fmt::format("another of {} tokens", tokens.size())});
  }
  require_room(n_past(), tokens.size());
  const std::size_t end = first_position() + tokens.size();
  if (cache_index()) check_positions(engine_, options_, *policy_, end);
  const auto trained = (std::size_t)engine_.model.hyperparameters.n_ctx_train;
  if (longest_probe > 0 && end + longest_probe > trained && !engine_.any_length) {
    throw Error({.kind = Error::Kind::kInput,
                 .subject = "probe",
                 .expected = fmt::format("at most the model's training length {}, prompt and probe together", trained),
                 .found = fmt::format("{} and {} tokens", end, longest_probe),
                 .remedy = "a shorter text would do, or shorter probes"});
  }
  const std::vector<int>& layers = engine_.layers.model_layers();
  std::size_t n_held = layers.size() - 1;  // rounds up
  for (const int l : layers) n_held += cache_.length(l);
  check_peak(plan_, options_, *policy_, n_held / layers.size(), tokens.size());
}

void SessionState::require_room(std::size_t n_held, std::size_t n_new) const {
  if (!cache_index()) check_positions(engine_, options_, *policy_, n_held + n_new);
  if (options_.policy.type->bounded || n_held + n_new <= plan_.cache_size) return;
  throw Error(
      {.kind = Error::Kind::kCapacity,
       .subject = "KV cache",
       .found = fmt::format("policy {} evicts nothing, {} tokens are held and {} more do not fit {} entries a layer",
                            options_.policy.type->name, n_held, n_new, plan_.cache_size)});
}

SessionCopy SessionState::copy() const {
  return {policy_->clone(), cache_.copy([&](int layer) { return loses(layer); }), n_past(), logits_};
}

SessionCopy SessionState::copy_all() const {
  return {policy_->clone(), cache_.copy([](int) { return true; }), n_past(), logits_};
}

std::uint64_t SessionState::copy_bytes() const {
  const Arena& arena = cache_.arena();
  std::uint64_t bytes = policy_->metadata_bytes() + logits_.size() * sizeof(float);
  for (int layer = 0; layer < arena.shape().n_layer; ++layer) {
    for (int head = 0; head < arena.shape().n_head_kv && loses(layer); ++head) {
      bytes += arena.live_bytes(arena.shape().lane(layer, head));
    }
  }
  return bytes;
}

void SessionState::restore(const SessionCopy& copy) {
  policy_ = copy.policy->clone();
  cache_.restore(copy.cache);
  tokens_.resize(copy.n_tokens);
  logits_ = copy.logits;
}

void SessionState::assign(const SessionState& other) {
  cache_.assign(other.cache_);
  policy_ = other.policy_->clone();
  tokens_ = other.tokens_;
  logits_ = other.logits_;
}

std::uint64_t SessionState::mark() {
  marks_.push_back({++n_marks_, n_past()});
  return n_marks_;
}

bool SessionState::marked(std::uint64_t mark) const {
  return std::any_of(marks_.begin(), marks_.end(), [&](const Mark& m) { return m.number == mark; });
}

void SessionState::forget_marks_behind(std::size_t n_tokens) {
  std::erase_if(marks_, [&](const Mark& m) { return m.n_tokens > n_tokens; });
}

// The policy answers first: it refuses before anything changes. A larger cache needs its memory before the policy may
// count on it, a smaller one gives memory back when the policy has let go.
void SessionState::resize(const Budget& budget) {
  check_ready();
  SessionOptions options = options_;
  options.budget = budget;
  options.policy.cache_size = 0;
  const SessionPlan plan = plan_session(engine_, options);
  const bool grows = plan.budget_bytes > plan_.budget_bytes;
  const std::uint64_t before = cache_.arena().bytes();
  if (grows) cache_.resize(plan.budget_bytes);
  try {
    ImmediateEdits edits(cache_, engine_.layers);
    policy_->resize(plan.cache_size, edits);
  } catch (...) {
    if (grows) {
      cache_.resize(before);
      reserve_lanes();
    }
    throw;
  }
  plan_ = plan;
  options_ = options;
  marks_.clear();
  for (int l = 0; l < cache_.arena().shape().n_layer; ++l) {
    const std::size_t n = cache_.length(l), most = plan_.sliding_entries;
    if (engine_.layers.slides(l) && n > most) cache_.compact(l, newest(n, most));
  }
  if (!grows) cache_.resize(plan_.budget_bytes);
  reserve_lanes();
}

CacheUse SessionState::use() const {
  const Arena& arena = cache_.arena();
  CacheUse use{.budget_bytes = plan_.budget_bytes,
               .held_bytes = arena.total_live() * arena.shape().slot_bytes(),
               .peak_bytes = arena.peak_live() * arena.shape().slot_bytes(),
               .full_bytes = (std::uint64_t)n_past() * (std::uint64_t)arena.shape().n_layer * plan_.entry_bytes};
  for (int l = 0; l < arena.shape().n_layer; ++l) use.entries_per_layer.push_back(cache_.length(l));
  return use;
}

}  // namespace lacake
