#pragma once

#include <vector>

#include "eval/grid.h"
#include "options.h"

namespace lacake::cli {

// Every policy at every budget, where several may be given (bench, eval). Throws Error(kUsage) for one that cannot be
// understood, or that needs a budget where none is given.
std::vector<eval::Configuration> grid_of(const Options& options);

}  // namespace lacake::cli
