#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& full_policy();

}  // namespace lacake
