#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& tova_policy();

}  // namespace lacake
