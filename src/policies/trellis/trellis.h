#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& trellis_policy();

}  // namespace lacake
