// Many columns: a tile of 32 rows, unpacked once, times all columns of a batch. Six columns and two vectors of rows at
// a time: 12 integer and 12 float sums of the 32 registers, so that each weight loaded is used six times and each
// column's four bytes, broadcast, twice. For each block of 32, 8 of 11 instructions on the multipliers are dot
// products; the others apply the block's scale and offset.

#include "product/int8_avx512_inl.h"

#if LACAKE_PRODUCT_AVX512

HWY_BEFORE_AVX512_VNNI();
namespace lacake::product::avx512 {
namespace {

constexpr std::size_t kColumns = 6;

// n columns: c, c + 1, ... Unrolled by the compiler, sums in registers.
template <std::size_t n>
void multiply(const Tile& tile, std::size_t n_blocks, const Column* x, float* out, std::size_t out_stride,
              __mmask16 first_rows, __mmask16 second_rows) {
  __m512 sum[n][2];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < n; ++c) sum[c][0] = sum[c][1] = _mm512_setzero_ps();

  const std::uint8_t* values = tile.values;
  for (std::size_t b = 0; b < n_blocks; ++b) {
    __m512i dots[n][2];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < n; ++c) dots[c][0] = dots[c][1] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (std::size_t k = 0; k < kBlock; k += 4, values += 4 * kTileRows) {
      const __m512i first = _mm512_loadu_si512(values), second = _mm512_loadu_si512(values + 64);
#pragma GCC unroll 8
      for (std::size_t c = 0; c < n; ++c) {
        const __m512i bytes = four_bytes(x[c].values + b * kBlock + k);
        dots[c][0] = _mm512_dpbusd_epi32(dots[c][0], first, bytes);
        dots[c][1] = _mm512_dpbusd_epi32(dots[c][1], second, bytes);
      }
    }
    for (std::size_t half = 0; half < 2; ++half) {
      const __m512 scale = _mm512_loadu_ps(tile.scales + b * kTileRows + 16 * half);
      const __m512 offset = _mm512_loadu_ps(tile.offsets + b * kTileRows + 16 * half);
#pragma GCC unroll 8
      for (std::size_t c = 0; c < n; ++c) {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[c][half]), scale);
        sum[c][half] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(x[c].scales[b]), sum[c][half]);
        sum[c][half] = _mm512_fmadd_ps(offset, _mm512_set1_ps(x[c].sums[b]), sum[c][half]);
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t c = 0; c < n; ++c) {
    _mm512_mask_storeu_ps(out + c * out_stride, first_rows, sum[c][0]);
    _mm512_mask_storeu_ps(out + c * out_stride + 16, second_rows, sum[c][1]);
  }
}

}  // namespace

void multiply_tile(const Tile& tile, std::size_t n_in, std::size_t n_rows, const std::byte* columns,
                   std::size_t n_columns, float* out, std::size_t out_stride) {
  const std::uint32_t rows = n_rows >= 32 ? ~0u : (1u << n_rows) - 1;
  const auto first = (__mmask16)rows, second = (__mmask16)(rows >> 16);
  const std::size_t n_blocks = n_in / kBlock;
  for (std::size_t c = 0; c < n_columns; c += kColumns) {
    const std::size_t n = n_columns - c < kColumns ? n_columns - c : kColumns;
    Column x[kColumns];
    for (std::size_t i = 0; i < n; ++i) x[i] = column_at(columns, n_in, c + i);
    float* to = out + c * out_stride;
    switch (n) {
      case 6:
        multiply<6>(tile, n_blocks, x, to, out_stride, first, second);
        break;
      case 5:
        multiply<5>(tile, n_blocks, x, to, out_stride, first, second);
        break;
      case 4:
        multiply<4>(tile, n_blocks, x, to, out_stride, first, second);
        break;
      case 3:
        multiply<3>(tile, n_blocks, x, to, out_stride, first, second);
        break;
      case 2:
        multiply<2>(tile, n_blocks, x, to, out_stride, first, second);
        break;
      default:
        multiply<1>(tile, n_blocks, x, to, out_stride, first, second);
        break;
    }
  }
}

}  // namespace lacake::product::avx512
HWY_AFTER_AVX512_VNNI();

#endif  // LACAKE_PRODUCT_AVX512
