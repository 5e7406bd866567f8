#pragma once

// The second form of a quantised matrix: the same bits as in the file, ordered for the vector unit and in one stream.

#include <cstddef>
#include <functional>

#include "matmul/unpack.h"

namespace lacake::matmul {

// Whether matrices of this type can be packed.
bool is_packable(ggml_type type);

// A packed matrix stands in tiles of kTileRows rows, a tile in blocks of kBlock columns, of K quantisations
// (and IQ4_XS) of 8 * kBlock. A block:
//   scales   [kTileRows] f16
//   least    [kTileRows] f16                 only of types that have a minimum
// and then, once or for each of its kBlock columns:
//   fine     [kTileRows, 2] uint8            only of K: what scales and minimum are multiplied by; of Q6_K and IQ4_XS
//                                            (int8) what scales are, in the first 16 columns and in the others
//   upper    [2, 8] uint64                   of 5 bits the highest: of 16 rows, 4 columns; bit 4 * row + column
//            [4 bytes, kTileRows, 2]         of 6 bits the two highest: of columns 4 (u + 2j) .. in bits 2j, 2j + 1
//   values   [4 bytes, kTileRows, 4 or 8]    bytes: four neighbouring columns of a row, 4 bits each (columns 4g ..
//                                            below, 16 + 4g .. above) or 8 bits each, as unsigned numbers
// It takes as many bytes as the file does, Q4_K and Q5_K 2 to 3 % and IQ4_XS 7 % more (for finer scales of 6 bits), but
// for a last tile that is not full (its missing rows are 0).
class Packed {
 public:
  // Packs into `memory`, which must outlive this: bytes_for(m) bytes, 64-byte aligned.
  //   read  told of rows [first, last) that were read for the last time: in order, a few MiB at a time, so that whoever
  //         maps them need not keep a large matrix in memory twice
  // REQUIRES: is_packable(m.type), m.n_in a multiple of kBlock and of the type's own block.
  using RowsRead = std::function<void(std::size_t first, std::size_t last)>;
  Packed(const Matrix& m, std::byte* memory, const RowsRead& read = {});

  ggml_type type() const { return type_; }
  std::size_t n_in() const { return n_in_; }
  std::size_t n_out() const { return n_out_; }
  std::size_t n_tiles() const { return (n_out_ + kTileRows - 1) / kTileRows; }
  const std::byte* tile(std::size_t i) const { return memory_ + i * tile_bytes_; }
  std::size_t bytes() const { return n_tiles() * tile_bytes_; }

  // Bytes that packing a matrix would take.
  static std::size_t bytes_for(const Matrix& m);

  // Tile i as 8-bit numbers, as unpack_tile() gives it. REQUIRES: is_affine(type())
  void unpack(std::size_t i, const Tile& to) const;
  // Tile i as f32, [kTileRows, n_in].
  void unpack_f32(std::size_t i, float* tile) const;
  // One row as f32: exactly what ggml makes of the stored row, up to the rounding of one multiply-add.
  //   out  [n_in] f32
  void read_row(std::size_t row, float* out) const;

 private:
  ggml_type type_;
  std::size_t n_in_, n_out_, tile_bytes_;
  const std::byte* memory_;
};

}  // namespace lacake::matmul
