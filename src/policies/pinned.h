#pragma once

#include "lacake/policy_author.h"

namespace lacake {

// The name of the parameter that every kind has which drops entries.
constexpr const char* kPinned = "pinned";

// The same kind with one parameter more: so many first tokens of the conversation always stay, a system message say.
// The kind decides about what comes behind them, with what they leave of C, and sees nothing else: to it the
// conversation begins there. Shares of attention stay shares of all of it. Without the parameter nothing is changed.
PolicyType with_pinned(PolicyType type);

}  // namespace lacake
