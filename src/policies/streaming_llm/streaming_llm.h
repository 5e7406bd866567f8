#pragma once

#include "lacake/policy.h"

namespace lacake {

const PolicyType& streaming_llm_policy();

}  // namespace lacake
