#pragma once

// How a policy reads its own parameters: the user's value, or the default that its row of the registry states.

#include <cassert>
#include <cstddef>
#include <string>
#include <string_view>

#include "lacake/error.h"
#include "lacake/policy.h"

namespace lacake {

// REQUIRES: the type has a parameter of this name.
inline double setting(const PolicyType& type, const PolicySettings& settings, std::string_view name) {
  if (auto given = settings.find(name); given != settings.end()) return given->second;
  for (const PolicyParameter& parameter : type.parameters) {
    if (parameter.name == name) return parameter.default_value;
  }
  assert(!"a policy asked for a parameter that it does not declare");
  return 0;
}

inline std::size_t size_setting(const PolicyType& type, const PolicySettings& settings, std::string_view name) {
  return static_cast<std::size_t>(setting(type, settings, name));
}

// Holds the caller to PolicyType::min_cache_size, for those who come without the engine.
inline void require_least(const PolicyType& type, const PolicySettings& settings, const AttentionShape& shape,
                          std::size_t cache_size) {
  const std::size_t least = type.min_cache_size(settings, shape);
  if (cache_size >= least) return;
  throw Error(Error::Kind::kUsage, "policy " + type.name + ": cache_size=" + std::to_string(cache_size) +
                                       " is too small for these settings, expected at least " + std::to_string(least));
}

}  // namespace lacake
