#pragma once

#include <cstdint>
#include <string_view>

#include "ggml.h"

namespace lacake::product {

// How matrices of weights are multiplied.
//   kGgml  by ggml
//   kF32   many columns by f32 tiles of unpacked weights
//   kInt8  many columns by 8-bit tiles of unpacked weights and columns quantised to 8 bits, which is where ggml rounds
//          too; types that are no 8-bit numbers with a scale and an offset by f32 tiles
// Few columns (decode) are memory's business: under kF32 and kInt8 the packed form is multiplied in integers, where
// there is one; by ggml otherwise.
enum class Method { kGgml, kF32, kInt8 };

const char* name(Method);

// "auto", "ggml", "f32" or "int8". `auto`: int8 where the machine has it, else f32 where its vectors are wide enough to
// win, else ggml. Throws Error(kUsage) naming `flag` for another word, or for what this machine cannot do.
Method parse_method(std::string_view text, std::string_view flag);

// Whether the method multiplies packed matrices on this machine.
bool reads_packed(Method);

enum class Kernel { kGgml, kInt8Packed, kInt8Tiles, kF32Tiles };

// Which kernel multiplies a weight.
//   packed  it is a packed one
//   few     the columns must be multiplied as each would be alone (decode), or are so few that tiles would not pay
Kernel kernel_for(Method, ggml_type, std::int64_t n_in, bool packed, bool few);

// Up to this many columns no tile is unpacked: that costs about as much as multiplying it with six.
inline constexpr std::int64_t kFewColumns = 6;

}  // namespace lacake::product
