#pragma once

// Products of many columns on a matrix unit that multiplies bf16 and sums in f32 (Intel's AMX). A number is one bf16,
// or the sum of two: hi, its nearest, and lo, nearest to what is left. Then w . x is taken as hi.hi + hi.lo + lo.hi,
// which leaves out 2^-16 of a product: nearer to f32 sums than any 8-bit product is to its own columns, and still far
// faster than f32, since the unit does sixteen bf16 products in the time of one.
//
// A result is the same bits whatever rows and columns are computed beside it.

#include <cstddef>
#include <cstdint>

#include "matmul/unpack.h"

namespace lacake::matmul {

// How many bf16 a number is split into: 1 or 2.
enum class Pieces : std::uint8_t { kOne = 1, kTwo = 2 };

// Whether this machine has such a unit and lets this process use it (asked once).
bool has_bf16();

// Columns stand in blocks of this many, so that a block's 32 neighbouring numbers fill one tile of the unit.
inline constexpr std::size_t kColumnBlock = 16;

// Bytes of one block of columns of n_in numbers: [2 bytes, 32, kColumnBlock, pieces, ceil(n_in / 32)]. Where n_in is no
// multiple of 32 what is missing counts as 0. A block begins at a 64-byte aligned address.
std::size_t column_block_bytes(std::size_t n_in, Pieces);

// Column `index` of a block, from n_in floats. Columns of a block that are never written hold anything and disturb no
// other.
// REQUIRES: has_bf16().
void split_column(const float* x, std::size_t n_in, Pieces, std::size_t index, std::byte* block);

// Bytes of kTileRows rows of weights: [2 bytes, 2, 16 rows, 16 pairs, 2 halves of the rows, pieces, ceil(n_in / 32)].
std::size_t split_tile_bytes(std::size_t n_in, Pieces);

// Rows as f32 (unpack_tile_f32), or as 8-bit numbers (unpack_tile), to rows as bf16.
// REQUIRES: has_bf16().
void split_tile(const float* tile, std::size_t n_in, Pieces, std::byte* to);
void split_tile(const Tile& tile, std::size_t n_in, Pieces, std::byte* to);

//   tile     split_tile
//   columns  blocks of split columns, one after the other
//   out[c * out_stride + i] = row i of the tile . column c, for i < n_rows
// REQUIRES: has_bf16().
void multiply_tile_bf16(const std::byte* tile, std::size_t n_in, std::size_t n_rows, Pieces, const std::byte* columns,
                        std::size_t n_columns, float* out, std::size_t out_stride);

}  // namespace lacake::matmul
