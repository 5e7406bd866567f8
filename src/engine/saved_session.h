#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lacake/snapshot.h"
#include "snapshot/parts.h"

namespace lacake {

// A session as metadata and parts of a file: docs/snapshots.md has the fields. Rows go in stored order, so that another
// place may lay them out as it likes; the slots where they lie go beside them, because attention adds up in the order
// of slots, and so a restored session gives the same bits. Earlier moments of it have the same parts under names of
// their own. Here is what of such a file is understood without a model; save_session.h and load_session.h do the rest.

// 2: rows of few bits are stored mixed (attention/mix.h). Of 1, files that have none are read. 3: keys of 8 bits are
// centered too (attention/key_form.h). Of 1 and 2, those of models whose keys have nothing in common are read.
inline constexpr std::uint64_t kSnapshotVersion = 3, kOldestSnapshotVersion = 1;
// Throws Error(kInput) where the file is of another version, or no session.
void require_snapshot(const PartsFile& file);
SessionOptions saved_options(const PartsFile& file);
std::vector<SavedCheckpoint> saved_checkpoints(const PartsFile& file);
std::uint64_t saved_row_bytes(const PartsFile& file);  // of all keys and values, those of checkpoints apart
// Positions of the tokens that a KV head of a layer keeps, in stored order. REQUIRES: the layer and head are there.
std::vector<std::int64_t> saved_positions(const PartsFile& file, int layer, int head);

// What begins the names of a moment's parts: of the session as it is now, and of an earlier moment.
inline constexpr const char* kNow = "";
std::string moment_name(std::size_t moment);
std::string layer_part(const std::string& when, int layer, const char* what);

// Entries of each layer and head at a moment: [n_head_kv * n_layer].
std::vector<std::size_t> saved_lengths(const PartsFile& file, const std::string& when, std::size_t n_lanes);
// Positions are stored as steps from one to the next.
std::vector<std::int64_t> differences(std::span<const std::int32_t> values);
std::vector<std::int64_t> sums(std::span<const std::int64_t> steps);  // what differences() was made of

// Names in the metadata.
inline constexpr const char* kSessionKind = "lacake.session";
inline constexpr const char* kKeysMixed = "cache.keys_mixed";
inline constexpr const char* kValuesMixed = "cache.values_mixed";
inline constexpr const char* kKeysCentered = "cache.keys_centered";
inline constexpr std::array<const char*, 4> kBudgetUnits = {"none", "entries", "share", "bytes"};  // as Budget::Unit

}  // namespace lacake
