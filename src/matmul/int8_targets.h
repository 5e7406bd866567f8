#pragma once

// The instruction sets that products in integers are compiled for. Highway has no dot product of bytes in the versions
// that distributions ship, so these are written in the instruction sets' own words (int8_words*_inl.h), the kernels
// over them once (int8_packed_inl.h, int8_tile_inl.h), and int8.cpp chooses when the program runs.

// All that the _inl.h need, because they are included between attributes: nothing may be included there.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "hwy/base.h"
#include "matmul/block_types.h"
#include "matmul/int8.h"
#include "matmul/packed_layout.h"

#if HWY_ARCH_X86_64 && HWY_COMPILER_GCC  // clang included
#define LACAKE_PRODUCT_INT8 1
#include <immintrin.h>
// GCC 12 takes its own intrinsics' undefined operands for mistakes (its bug 105593).
#if HWY_COMPILER_GCC_ACTUAL
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define LACAKE_DECLARE_INT8(target)                                                                                   \
  namespace lacake::matmul::target {                                                                                  \
  void multiply_packed(const Packed& m, TileRange tiles, const std::byte* columns, std::size_t n_columns, float* out, \
                       std::size_t out_stride);                                                                       \
  void multiply_tile(const Tile& tile, int bits, std::size_t n_in, std::size_t n_rows, const std::byte* columns,      \
                     std::size_t n_columns, float* out, std::size_t out_stride);                                      \
  }
namespace lacake::matmul {
// Numbers at .. at + 3 of a column, a byte each.
HWY_INLINE std::int32_t four_of(const Column& x, std::size_t at) {
  std::int32_t four;
  std::memcpy(&four, x.values + at, sizeof four);
  return four;
}
}  // namespace lacake::matmul

LACAKE_DECLARE_INT8(avx2)
LACAKE_DECLARE_INT8(avx_vnni)
LACAKE_DECLARE_INT8(avx512_vnni)
#undef LACAKE_DECLARE_INT8

#else
#define LACAKE_PRODUCT_INT8 0
#endif
