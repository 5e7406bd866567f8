#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& layer_defensive_policy();

}  // namespace lacake
