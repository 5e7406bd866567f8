#pragma once

// Products of quantised weights with quantised columns, in integers: the fast ones of this folder. They need AVX2, and
// use what adds four products of bytes in one instruction where there is that (AVX-VNNI, AVX-512 VNNI).
//
// A result is the same bits whatever rows and columns are computed beside it.

#include <cstddef>

#include "matmul/columns.h"
#include "matmul/matrix.h"
#include "matmul/packed.h"
#include "matmul/unpack.h"

namespace lacake::matmul {

// Whether the target in use (cpu/target.h) has them.
bool has_int8();

// Tiles first .. last - 1 of a matrix.
struct TileRange {
  std::size_t first, last;
};

// Few columns: some tiles of a packed matrix, read as a stream.
//   out[c * out_stride + i] = row i . column c, for the tiles' rows i (counted from the matrix's first)
// REQUIRES: has_int8().
void multiply_packed(const Packed& m, TileRange tiles, const std::byte* columns, std::size_t n_columns, float* out,
                     std::size_t out_stride);

// Many columns: an unpacked tile, used for all of them.
//   out[c * out_stride + i] = row i of the tile . column c, for i < n_rows
//   bits  of the tile's values
// REQUIRES: has_int8().
void multiply_tile(const Tile& tile, int bits, std::size_t n_in, std::size_t n_rows, const std::byte* columns,
                   std::size_t n_columns, float* out, std::size_t out_stride);

namespace reference {
// Stored rows of any type with to_float, in double.
//   out[c * out_stride + i] = row i . column c, for rows first <= i < last
void multiply(const Matrix& m, std::size_t first, std::size_t last, const std::byte* columns, std::size_t n_columns,
              float* out, std::size_t out_stride);
}  // namespace reference

}  // namespace lacake::matmul
