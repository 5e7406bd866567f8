#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& h2o_policy();

}  // namespace lacake
