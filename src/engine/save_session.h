#pragma once

#include <span>

#include "engine/session_state.h"
#include "snapshot/parts.h"

namespace lacake {

// The session and its moments live until the file is written. REQUIRES: its status is kReady; it can go back to the
// moments, which come in order.
void save_session(const SessionState& session, std::span<const SessionCopy* const> moments, PartsWriter& file);

}  // namespace lacake
