#pragma once

#include <cstdint>

namespace lacake {

// A token's id: 0 <= id < vocabulary size.
using Token = std::int32_t;

}  // namespace lacake
