#pragma once

// Columns of a batch, quantised to 8 bits: the right-hand side of every int8 product.

#include <cstddef>
#include <cstdint>

#include "matmul/matrix.h"

namespace lacake::matmul {

// One column of n numbers, in blocks of kBlock:
//   values  [n] int8       x ~ scale * value, |value| <= 127: ggml's q8_1, so that a product has ggml's error
//   scales  [n / kBlock] f32
//   sums    [n / kBlock] f32  scale * (sum of the block's values): what a weight's offset is multiplied with
// REQUIRES: n a multiple of kBlock.
struct Column {
  const std::int8_t* values;
  const float* scales;
  const float* sums;
};

// Columns stand one after the other, `column_bytes(n)` each, 64-byte aligned if the first one is.
std::size_t column_bytes(std::size_t n);
Column column_at(const std::byte* columns, std::size_t n, std::size_t index);

//   x   [n] f32
//   to  column_bytes(n) bytes
void quantise_column(const float* x, std::size_t n, std::byte* to);

// Root-mean-square norm: to[i] = x[i] / sqrt(mean of squares + epsilon) * weight[i]. Squares are summed in double.
//   x, weight, to  [n] f32
void norm_column(const float* x, const float* weight, float epsilon, std::size_t n, float* to);

namespace reference {
void quantise_column(const float* x, std::size_t n, std::byte* to);
}

}  // namespace lacake::matmul
