#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lacake {

// The known name that is fewest single-letter changes away from `name`; "" if even that shares little with it (more
// changes than half its letters; two letters swapped are two changes).
std::string nearest(std::string_view name, const std::vector<std::string>& known);

}  // namespace lacake
