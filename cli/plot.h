#pragma once

#include <string>
#include <string_view>

#include "kept.h"

namespace lacake::cli {

// Throws Error(kUsage) unless the file name ends in .svg or .png and this build can draw it.
void require_plot_name(const std::string& path, std::string_view flag);

// What each layer keeps, as an SVG or PNG (by the name of the file that it is for): layers from top to bottom, the text
// from left to right, the darker the more of it is kept; entries a layer as bars beside it. The same input gives the
// same bytes. REQUIRES: require_plot_name(path) passed.
std::string plot(const Kept& kept, const std::string& path);

}  // namespace lacake::cli
