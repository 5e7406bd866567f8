#pragma once

// How much more a session may read: checked before a prompt changes anything.

#include <cstddef>

#include "engine/engine_state.h"
#include "lacake/engine.h"

namespace lacake {

// Throws Error(kCapacity) if the policy would keep more than the budget holds while `n_new` tokens are read that meet
// `n_held` entries a layer (Policy::peak_entries).
void check_peak(const SessionPlan&, const SessionOptions&, const Policy&, std::size_t n_held, std::size_t n_new);

// Throws Error(kInput) if this many tokens would put a position beyond the model's training length, saying which
// policies or prefill would do.
void check_positions(const EngineState& engine, const SessionOptions&, const Policy&, std::size_t n_tokens);

}  // namespace lacake
