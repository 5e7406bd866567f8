#pragma once

// Quantised weights as 8-bit numbers with a scale and an offset for each block: exactly what the file says, in the one
// form that the products of this folder read.

#include <cstddef>
#include <cstdint>

#include "matmul/matrix.h"

namespace lacake::matmul {

// Whether a type's weights are w = scale * q + offset with 0 <= q < 256 and one scale and offset for each kBlock.
bool is_affine(ggml_type type);
// How many bits q has. REQUIRES: is_affine(type).
int bits_of(ggml_type type);

// Rows [first, first + kTileRows) side by side, so that a vector holds the same columns of neighbouring rows:
//   values   [4, kTileRows, n_in / 4] uint8   four neighbours of row 0, of row 1, ...
//   scales   [kTileRows, n_in / kBlock] f32
//   offsets  [kTileRows, n_in / kBlock] f32
// Rows that the matrix does not have repeat its last one.
struct Tile {
  std::uint8_t* values;
  float* scales;
  float* offsets;
};

// A tile's bytes; one begins at any 64-byte aligned address.
std::size_t tile_bytes(std::size_t n_in);
Tile tile_at(std::byte* memory, std::size_t n_in);

// REQUIRES: is_affine(m.type).
void unpack_tile(const Matrix& m, std::size_t first, const Tile& tile);

// The same rows as f32, any type: [kTileRows, n_in]. `row` is scratch of n_in floats.
void unpack_tile_f32(const Matrix& m, std::size_t first, float* row, float* tile);

}  // namespace lacake::matmul
