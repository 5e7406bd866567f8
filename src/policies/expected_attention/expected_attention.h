#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& expected_attention_policy();

}  // namespace lacake
