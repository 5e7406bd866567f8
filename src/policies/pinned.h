#pragma once

#include "lacake/policy_author.h"

namespace lacake {

// The same kind with the parameter kPinned. The kind decides about what comes behind pinned tokens, with what they
// leave of C, and sees nothing else: to it the conversation begins there. Shares of attention stay shares of all of it.
// Without the parameter nothing is changed.
PolicyType with_pinned(PolicyType type);

}  // namespace lacake
