#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/session_state.h"
#include "lacake/snapshot.h"
#include "snapshot/parts.h"

namespace lacake {

// A session as metadata and parts of a file: docs/snapshots.md has the fields. Rows go in stored order, so that another
// place may lay them out as it likes; the slots where they lie go beside them, because attention adds up in the order
// of slots, and so a restored session gives the same bits. Earlier moments of it have the same parts under names of
// their own.
//
// The session and its moments live until the file is written. REQUIRES: its status is kReady; it can go back to the
// moments, which come in order.
void save_session(const SessionState& session, std::span<const SessionCopy* const> moments, PartsWriter& file);

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

// What of it is understood without a model.

// 2: rows of few bits are stored mixed (attention/mix.h). Of 1, files that have none are read.
inline constexpr std::uint64_t kSnapshotVersion = 2, kOldestSnapshotVersion = 1;
// Throws Error(kInput) where the file is of another version, or no session.
void require_snapshot(const PartsFile& file);
SessionOptions saved_options(const PartsFile& file);
std::vector<SavedCheckpoint> saved_checkpoints(const PartsFile& file);
std::uint64_t saved_row_bytes(const PartsFile& file);  // of all keys and values, those of checkpoints apart
// Positions of the tokens that a KV head of a layer keeps, in stored order. REQUIRES: the layer and head are there.
std::vector<std::int64_t> saved_positions(const PartsFile& file, int layer, int head);

}  // namespace lacake
