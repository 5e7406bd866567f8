#pragma once

#include <cstdint>
#include <string_view>

#include "ggml.h"
#include "matmul/bf16.h"

namespace lacake::matmul {

// How matrices of weights are multiplied.
//   kGgml  by ggml
//   kF32   many columns by f32 tiles of unpacked weights
//   kInt8  many columns by 8-bit tiles of unpacked weights and columns quantised to 8 bits, which is where ggml rounds
//          too; types that are no 8-bit numbers with a scale and an offset by f32 tiles
//   kBf16  many columns by bf16 tiles of unpacked weights, on a matrix unit; weights and columns are rounded to bf16,
//          finer than 8 bits in blocks. Weights of f16 or bf16 as under kBf16x3, those of f32 as under kF32
//   kBf16x3  the same with every number as the sum of two bf16: three products, nearly those of f32
// Few columns (decode) are memory's business: under all but kGgml the packed form is multiplied in integers, where
// there is one; by ggml otherwise.
enum class Method { kGgml, kF32, kInt8, kBf16, kBf16x3 };

const char* name(Method);

// "auto" or a method's name. `auto`: bf16 where the machine has such a unit, else int8 where it has that, else ggml,
// whose quantised products beat f32 in vectors of four. Throws Error(kUsage) about `product` for another word,
// or for what this machine cannot do.
Method parse_method(std::string_view text);

// Under kBf16 and kBf16x3: what a weight of this type and its columns are split into.
Pieces pieces(Method, ggml_type);

// Whether the method multiplies packed matrices on this machine.
bool reads_packed(Method);

enum class Kernel { kGgml, kInt8Packed, kInt8Tiles, kF32Tiles, kBf16Tiles };

// Which kernel multiplies a weight.
//   packed  it is a packed one
//   few     the columns must be multiplied as each would be alone (decode), or are so few that tiles would not pay
Kernel kernel_for(Method, ggml_type, std::int64_t n_in, bool packed, bool few);

// Memory that a product of `n_columns` of at most `n_in` numbers takes beside the graph's: ggml quantises its columns,
// to 8 bits and a scale for each 32, in a buffer of its own; ours are in the graph's.
std::uint64_t bytes_beside_graph(Method, std::size_t n_columns, std::size_t n_in);

// Up to this many columns no tile is unpacked: that costs about as much as multiplying it with six.
inline constexpr std::int64_t kFewColumns = 6;

}  // namespace lacake::matmul
