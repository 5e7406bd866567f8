#include <algorithm>
#include <string>
#include <string_view>

#include "lacake/error.h"
#include "policies/parameters.h"
#include "policies/ranked.h"
#include "policies/shared_parameters.h"

namespace lacake {

std::size_t ranked_max_entries(const PolicySettings&, const AttentionShape&, std::size_t cache_size) {
  return cache_size + 1;
}

namespace {

bool declares(const PolicyType& type, std::string_view name) {
  return std::any_of(type.parameters.begin(), type.parameters.end(),
                     [&](const PolicyParameter& p) { return p.name == name; });
}

std::size_t size_if_declared(const PolicyType& type, const PolicySettings& given, std::string_view name) {
  return declares(type, name) ? size_setting(type, given, name) : 0;
}

}  // namespace

std::size_t ranked_min_cache_size(const PolicyType& type, const PolicySettings& given) {
  return size_if_declared(type, given, "sinks") + size_if_declared(type, given, "window") + 1;
}

RankedPolicy::Options ranked_options(const PolicyType& type, const PolicySettings& given, const AttentionShape& shape,
                                     std::size_t cache_size) {
  RankedPolicy::Options options{.policy = type.name, .cache_size = cache_size};
  options.min_cache_size = require_cache_size(type, given, shape, cache_size);
  options.sinks = size_if_declared(type, given, "sinks");
  options.window = size_if_declared(type, given, "window");
  if (declares(type, "evict_fraction")) options.evict_fraction = number_setting(type, given, "evict_fraction");
  if (declares(type, "positions")) options.positions = positions_setting(type, given);
  if (!declares(type, "heads")) return options;
  using Sharing = RankedPolicy::Options::Sharing;
  const std::string heads = text_setting(type.parameters, given, "heads");
  options.sharing = heads == "joint" ? Sharing::kJoint : heads == "adaptive" ? Sharing::kAdaptive : Sharing::kEven;
  options.head_floor = number_setting(type, given, "floor");
  // One query has one index, but heads of different lengths would each need their own.
  if (options.sharing != Sharing::kEven && options.positions == Positions::kCompacted) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = policy_subject(type.name),
                 .expected = "positions=original with heads=" + heads,
                 .found = "positions=compacted"});
  }
  return options;
}

}  // namespace lacake
