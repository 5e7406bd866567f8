#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& keydiff_policy();

}  // namespace lacake
