#pragma once

// Products of many columns in f32: weights unpacked to f32 tiles, columns as they are. Closest to the model: nothing is
// rounded but the sums. Any type that ggml can convert to f32, any instruction set.

#include <cstddef>

#include "matmul/unpack.h"

namespace lacake::matmul {

//   tile   [kTileRows, n_in] f32 (unpack_tile_f32)
//   x      [n_in, n_columns] f32, x_stride floats from one column to the next
//   out[c * out_stride + i] = row i of the tile . column c, for i < n_rows
// A result is the same bits whatever rows and columns are computed beside it.
void multiply_tile_f32(const float* tile, std::size_t n_in, std::size_t n_rows, const float* x, std::size_t x_stride,
                       std::size_t n_columns, float* out, std::size_t out_stride);

// The f32 form of an unpacked tile.
void expand_tile(const Tile& tile, std::size_t n_in, float* to);

}  // namespace lacake::matmul
