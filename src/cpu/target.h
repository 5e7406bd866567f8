#pragma once

// Which instruction set kernels run: Highway's targets, and beside some of them what Highway's own do not have. One of
// them is in use in the whole process, the machine's best at first. Programs choose another by lacake/machine.h, tests
// also by use_target().

#include <string>
#include <string_view>
#include <vector>

namespace lacake::cpu {

// The one in use, e.g. "AVX3": shown by benchmarks. "AMX" is AVX3 (or what is above it) with a matrix unit, "AVX_VNNI"
// is AVX2 with products of bytes.
const char* target_name();
// Those of this machine, best first.
std::vector<std::string> target_names();
// From now on kernels run as compiled for this one of target_names(), models that are open included, which must have
// been opened under it: for tests.
void use_target(std::string_view name);

// What kernels may use under it.
bool uses_matrix_unit();
bool uses_avx512();       // Highway's AVX3 or better
bool uses_avx512_vnni();  // products of bytes and of 16-bit integers, in vectors of 64 bytes
bool uses_avx_vnni();     // the same in vectors of 32 bytes, without AVX-512
bool uses_avx2();         // AVX2 with FMA and F16C, or better

}  // namespace lacake::cpu
