#pragma once

#include "options.h"

namespace lacake::cli {

// Options of sampling that change nothing beside the others. Throws Error(kUsage) for the first that needs a sampler
// which is off, saying what turns it on. Those whose sampler does not run are said in a line on standard error and no
// more, because scripts write `--temp 0 --top-k 40`; a seed beside `--temp 0` is not even said. Not for `serve`: there
// they are defaults, beside which a request may turn the sampler on.
void check_samplers(const Options& options, Command command);

}  // namespace lacake::cli
