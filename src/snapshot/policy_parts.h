#pragma once

// A policy's state as parts of a file, one a field: `policy.NAME`, with something before it where a file has several.

#include <cstddef>
#include <functional>
#include <string>

#include "lacake/policy_author.h"
#include "snapshot/parts.h"

namespace lacake {

// Entries that the cache holds of a KV head of a layer with full attention.
using EntryCount = std::function<std::size_t(int layer, int head)>;

// The policy is a copy that may be visited; nothing of it changes.
void save_policy(Policy& policy, const EntryCount& n_entries, PartsWriter& file, const std::string& before = "");
// Throws Error(kInput) naming the file and the field where the file's state is none of this policy.
void load_policy(Policy& policy, const EntryCount& n_entries, const PartsFile& file, const std::string& before = "");

}  // namespace lacake
