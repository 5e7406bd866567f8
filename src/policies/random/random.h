#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& random_policy();

}  // namespace lacake
