#pragma once

// What the AVX-512 VNNI files share. Highway has no dot product of bytes in the versions that distributions ship, so
// these are written in the instruction set's own words and chosen when the program runs.

#include "hwy/base.h"
#include "product/int8.h"

#if HWY_ARCH_X86_64 && (HWY_COMPILER_GCC || HWY_COMPILER_CLANG)
#define LACAKE_PRODUCT_AVX512 1
#include <immintrin.h>
// GCC 12 takes its own intrinsics' undefined operands for mistakes (its bug 105593).
#if HWY_COMPILER_GCC_ACTUAL
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define HWY_BEFORE_AVX512_VNNI() \
  HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni") static_assert(true, "")
#define HWY_AFTER_AVX512_VNNI() HWY_POP_ATTRIBUTES static_assert(true, "")

namespace lacake::product::avx512 {

void multiply_packed(const Packed& m, std::size_t tile, const std::byte* columns, std::size_t n_columns, float* out,
                     std::size_t out_stride);
void multiply_tile(const Tile& tile, std::size_t n_in, std::size_t n_rows, const std::byte* columns,
                   std::size_t n_columns, float* out, std::size_t out_stride);

}  // namespace lacake::product::avx512

HWY_BEFORE_AVX512_VNNI();
namespace lacake::product::avx512 {

inline __m512i four_bytes(const std::int8_t* at) {
  std::int32_t bits;
  __builtin_memcpy(&bits, at, sizeof bits);
  return _mm512_set1_epi32(bits);
}
inline __m256i load32(const void* at) { return _mm256_loadu_si256((const __m256i*)at); }

}  // namespace lacake::product::avx512
HWY_AFTER_AVX512_VNNI();

#else
#define LACAKE_PRODUCT_AVX512 0
#endif
