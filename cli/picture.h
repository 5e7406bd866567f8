#pragma once

#include <string>
#include <string_view>

#include "draw/drawing.h"

namespace lacake::cli {

// Throws Error(kUsage) unless the file name ends in .svg or .png and this build can make it: PNG needs cairo.
void require_picture_name(const std::string& path, std::string_view flag);

// A drawing as the content of a file of this name. The same drawing gives the same bytes.
// REQUIRES: require_picture_name(path) passed.
std::string picture(const draw::Drawing& drawing, const std::string& path);

// As PNG, for dense screens; "" where lacake was built without cairo.
std::string png(const draw::Drawing& drawing);

}  // namespace lacake::cli
