#pragma once

#include <string>

namespace lacake::cli {

// The prefix and 24 letters and digits that nobody else has.
std::string random_id(const char* prefix);

}  // namespace lacake::cli
