#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& learned_policy();

}  // namespace lacake
