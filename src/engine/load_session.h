#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/session_state.h"
#include "snapshot/parts.h"

namespace lacake {

struct LoadedSession {
  std::unique_ptr<SessionState> session;
  std::vector<SessionCheckpoint::State> checkpoints;
};
// The same session, in this engine, and those of its moments that stand at these places in saved_checkpoints,
// ascending. Throws Error(kInput) naming the file and what of it is of another model or damaged, Error(kUsage or
// kCapacity) as Engine::open.
LoadedSession load_session(EngineState& engine, const PartsFile& file, std::span<const std::size_t> moments);

// Throws Error(kInput) where it is of another model.
void require_model(const PartsFile& file, const LoadedModel& model);

}  // namespace lacake
