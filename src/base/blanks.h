#pragma once

#include <string_view>

namespace lacake {

// The text without the blanks around it: space, tab, line feed, vertical tab, form feed and carriage return, which are
// C's and what chat templates take off.
std::string_view without_blanks(std::string_view text);

}  // namespace lacake
