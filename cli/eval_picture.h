#pragma once

#include <string>

#include "eval/drawing.h"

namespace lacake::cli {

// A drawing as PNG, for dense screens; "" where lacake was built without cairo.
std::string png(const eval::Drawing& drawing);

}  // namespace lacake::cli
