#pragma once

#include <span>

#include "engine/session_state.h"

namespace lacake {

// Feeds one token to each session, in one graph; all of them have room. Each session's logits are bit for bit those
// that it gets alone: its attention is its own, and products run column by column.
void run_step(EngineState& engine, std::span<const Engine::Next> batch);

// Bytes of a step's intermediate tensors, for one session with so many entries in each layer. The engine keeps them
// from step to step.
std::uint64_t decode_compute_bytes(EngineState& engine, const CacheShape& shape, std::size_t n_entries);

}  // namespace lacake
