#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lacake {

// Which instruction set this library computes with. Its kernels exist once for each that the compiler knows; the best
// one of the machine runs unless another is chosen here: to compare them, or where a hypervisor promises what the
// processor does badly. The choice is one for the whole process. Results of two sets differ by rounding.
//
// All functions may be called from any thread.

// Names of those that this machine has, best first: "AMX", "AVX3_SPR", "AVX3", "AVX_VNNI", "AVX2", "SSE4", "NEON", ...
std::vector<std::string> instruction_sets();

// The one in use.
std::string instruction_set();

// From now on everything runs as compiled for this one. To be called while no Model is open, because weights are packed
// for the set in use when their model was opened. A Model that another thread opens meanwhile sees either choice whole.
// Throws Error(kUsage) if the machine has none of this name, Error(kState) while a Model is open; nothing changes then.
void use_instruction_set(std::string_view name);

}  // namespace lacake
