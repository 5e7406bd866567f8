#pragma once

// Rows of few bits are stored *mixed*: multiplied by an orthonormal Hadamard matrix, so that no number of a row stands
// out. A block of 32 numbers that share a scale of 4 bits has no room for one that is twenty times the others, and some
// channels of keys are.
//
// The matrix H is its own inverse, and products do not change: (Hq).(Hk) = q.k. So whoever multiplies mixed keys mixes
// the query before, and whoever sums up mixed values mixes the sum after. Cosines between rows of a head and a row's
// length are the same mixed or not; a number of a row, and its product with anything that is not mixed, are not.
//
// RoPE and H do not commute: a mixed key is rotated after it has been mixed back.

#include <cstddef>

#include "ggml.h"

namespace lacake::attention {

// Types of fewer than 8 bits a number: from 8 on there is nothing to gain by mixing.
inline bool is_mixed(ggml_type type) { return ggml_type_size(type) < (std::size_t)ggml_blck_size(type); }

// Numbers of a row [d] that are mixed with each other: the largest power of two that divides d, at most kMostMixed.
inline constexpr std::size_t kMostMixed = 512;
inline std::size_t mix_block(std::size_t d) {
  const std::size_t divides = d & (~d + 1);
  return divides < kMostMixed ? divides : kMostMixed;
}

// Rows [d, n] in place, each block times the Sylvester matrix of its size over the root of the size. A block of b takes
// b log b additions, in an order that is the same on every instruction set: so are the bits. Twice is as before, but
// for rounding.
void mix(float* rows, std::size_t d, std::size_t n = 1);

namespace reference {
// What an element of the matrix is: +-1 / sqrt(b).
double mix_element(std::size_t block, std::size_t row, std::size_t column);
void mix(const float* row, std::size_t d, double* out);
}  // namespace reference

}  // namespace lacake::attention
