#pragma once

#include <span>

#include "lacake/engine.h"

namespace lacake {

// The two things that sessions do, with all that has to be checked before: behind Session and Engine alike.

// A prefill job from beginning to end. False if its progress hook stopped it.
bool run_prefill(EngineState& engine, std::span<Session* const> sessions, std::span<const Token> tokens,
                 const PrefillOptions& options);

// See Engine::step.
void step_batch(EngineState& engine, std::span<const Engine::Next> batch);

}  // namespace lacake
