#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& kvzip_policy();

}  // namespace lacake
