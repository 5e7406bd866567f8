#pragma once

#include "options.h"

namespace lacake::cli {

// lacake inspect FILE: what a saved conversation is, what its layers keep, and its text, dimmed by how many layers
// still hold each token. Needs no model.
int inspect_saved(const Options& options);

}  // namespace lacake::cli
