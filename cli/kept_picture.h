#pragma once

#include "draw/drawing.h"
#include "kept.h"

namespace lacake::cli {

// What each layer keeps: layers from top to bottom, the text from left to right, the darker the more of it is kept;
// entries a layer as bars beside it.
draw::Drawing kept_drawing(const Kept& kept);

}  // namespace lacake::cli
