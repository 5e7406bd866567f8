#pragma once

// Parameters that mean the same in every policy that has them, and what follows from them.

#include <cstddef>
#include <string>
#include <vector>

#include "lacake/policy_author.h"

namespace lacake {

// `positions=original|compacted`: for policies whose keys stand at their tokens unless asked for the other.
PolicyParameter positions_parameter();
Positions positions_setting(const PolicyType&, const PolicySettings&);

// `sinks=`: first tokens that always stay.
PolicyParameter sinks_parameter();
// `window=`: last entries that always stay.
PolicyParameter window_parameter(std::size_t default_value, std::size_t min, std::size_t max = 65536);

// What the two parameters below are where nothing is said.
struct HeadDefaults {
  const char* heads = "even";
  double floor = 0.2;
  bool joint = true;  // whether `joint` is one of the words
};
// And `heads=even|adaptive|joint` and `floor=`, last: for policies that score heads apart. `joint` only where a score
// means the same in all layers, and nothing else divides the entries among them.
std::vector<PolicyParameter> with_head_parameters(std::vector<PolicyParameter> own, const HeadDefaults& = {});

// `evict_fraction=`: the share of C that a full list evicts at once in decoding.
PolicyParameter evict_fraction_parameter(double default_value = 1.0 / 64);
// How many entries a list of `size` evicts at once: share * min(size, C), at least 1. A list that got fewer than C
// entries evicts a share of its own size, or it would lose all of them.
std::size_t n_evicted_at_once(double share, std::size_t size, std::size_t cache_size);

}  // namespace lacake
