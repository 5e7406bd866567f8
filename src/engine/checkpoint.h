#pragma once

#include <cstdint>

#include "engine/session_state.h"
#include "lacake/engine.h"

namespace lacake {

struct SessionCheckpoint::State {
  SessionCopy copy;
  const SessionState* session;  // whose moment it is
  std::uint64_t mark;           // SessionState::mark

  bool can_go_back() const { return session->marked(mark); }
};

}  // namespace lacake
