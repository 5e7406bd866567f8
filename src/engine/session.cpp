#include "engine/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "engine/decode.h"
#include "engine/prefill.h"
#include "lacake/error.h"

namespace lacake {

SessionImpl::SessionImpl(Engine& engine, const SessionOptions& options)
    : engine_(engine),
      options_(options),
      plan_(plan_session(engine.parts(), options)),
      policy_(
          options.policy.type->make(options.policy.settings, engine.parts().layers.policy_shape(), plan_.cache_size)),
      cache_(cache_shape(engine.parts().model.hyperparameters, options.types), policy_->traits(), plan_.budget_bytes,
             engine.parts().compute.buffer_type()),
      observers_((std::size_t)engine.parts().compute.threads()) {
  reserve_lanes();
}

void SessionImpl::reserve_lanes() {
  const CacheShape& shape = cache_.arena().shape();
  std::vector<std::size_t> capacities(shape.n_lanes());
  for (int l = 0; l < shape.n_layer; ++l) {
    const LayerMap& layers = engine_.parts().layers;
    for (int h = 0; h < shape.n_head_kv; ++h) {
      capacities[shape.lane(l, h)] =
          layers.slides(l) ? plan_.sliding_entries : policy_->reserve(layers.policy_layer(l), h);
    }
  }
  cache_.divide(capacities);
}

bool SessionImpl::has_room() const {
  const std::vector<int>& layers = engine_.parts().layers.model_layers();
  return std::all_of(layers.begin(), layers.end(), [&](int l) { return cache_.has_room(l); });
}

void SessionImpl::check_segment(std::size_t n_tokens) const {
  std::size_t first_position = cache_index() ? 0 : n_past();
  for (int l = 0; cache_index() && l < cache_.arena().shape().n_layer; ++l) {
    first_position = std::max(first_position, cache_.length(l));
  }
  check_positions(engine_.parts(), options_, *policy_, first_position + n_tokens);
  const std::vector<int>& layers = engine_.parts().layers.model_layers();
  std::size_t n_held = layers.size() - 1;  // rounds up
  for (const int l : layers) n_held += cache_.length(l);
  check_held_whole(plan_, options_, policy_->traits(), n_held / layers.size(), n_tokens);
  if (!options_.policy.type->bounded && n_past() + n_tokens > plan_.cache_size) {
    throw Error(
        Error::Kind::kCapacity,
        fmt::format("KV cache: policy {} drops nothing, {} tokens are held and {} more do not fit {} entries a layer",
                    options_.policy.type->name, n_past(), n_tokens, plan_.cache_size));
  }
}

bool SessionImpl::prefill(std::span<const Token> tokens, const PrefillHooks& hooks) {
  assert(!tokens.empty());
  SessionImpl* const self = this;
  check_segment(tokens.size());
  PrefillProgress progress(hooks, tokens.size());
  const bool exact = options_.prefill == PrefillMode::kExact;
  const std::size_t chunk = exact ? tokens.size() : plan_.chunk;
  // Chunks of nearly equal size: a short last one would show its policy too few queries.
  const std::size_t n_chunks = (tokens.size() + chunk - 1) / chunk;
  for (std::size_t i = 0; i < n_chunks; ++i) {
    const std::size_t from = tokens.size() * i / n_chunks, to = tokens.size() * (i + 1) / n_chunks;
    if (!run_segment(engine_.parts(), {&self, 1}, tokens.subspan(from, to - from), hooks, from, progress)) return false;
  }
  return true;
}

void SessionImpl::step(Token token) {
  const Engine::Next next{this, token};
  engine_.step({&next, 1});
}

CacheUse SessionImpl::use() const {
  const Arena& arena = cache_.arena();
  CacheUse use{.budget_bytes = plan_.budget_bytes,
               .held_bytes = arena.total_live() * arena.shape().slot_bytes(),
               .peak_bytes = arena.peak_live() * arena.shape().slot_bytes(),
               .full_bytes = (std::uint64_t)n_past() * (std::uint64_t)arena.shape().n_layer * plan_.entry_bytes};
  for (int l = 0; l < arena.shape().n_layer; ++l) use.entries_per_layer.push_back(cache_.length(l));
  return use;
}

std::vector<std::int64_t> SessionImpl::kept(int layer, int head) const {
  const auto tokens = cache_.tokens(layer, head);
  return {tokens.begin(), tokens.end()};
}

}  // namespace lacake
