#pragma once

#include <cstdlib>

#include "lacake/machine.h"

namespace lacake {

// For main() of a test program: computes with the instruction set that the environment variable LACAKE_TARGET names, if
// it is set. Throws Error(kUsage) with the names of this machine if it is none of them.
inline void use_target_of_environment() {
  const char* name = std::getenv("LACAKE_TARGET");
  if (name && *name) use_instruction_set(name);
}

}  // namespace lacake
