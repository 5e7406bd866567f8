#pragma once

#include <string_view>

namespace lacake {

// Whether a sampler of this name (lacake/sampler.h) can change which token is the likeliest. The others have no effect
// with temp <= 0.
bool reorders(std::string_view name);

}  // namespace lacake
