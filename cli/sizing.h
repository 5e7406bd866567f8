#pragma once

#include <cstdint>
#include <string>

#include "lacake/engine.h"
#include "lacake/sizing.h"
#include "options.h"

namespace lacake::cli {

// Where a budget is given and no policy: the one of our own, which docs/results shows to lose least. Without a
// budget nothing has to go.
inline constexpr const char* kPolicyOfABudget = "trellis";

// The session that the options describe, without its lengths. Throws Error(kUsage) for a policy, budget or type that
// cannot be understood, whether or not there is a model yet.
SessionOptions session_options(const Options& options);

// A number of bytes ("4GiB"). Throws Error(kUsage) about the setting.
std::uint64_t bytes_option(const std::string& setting, const std::string& text);

// The lengths that the options set: --predict and --ctx-size.
LengthLimits length_limits(const Options& options);

}  // namespace lacake::cli
