// Few columns: packed tiles, read once as a stream. Each lane is a row, so that no sum runs across lanes; a block of 32
// rows and 32 columns takes about 60 vector instructions for its 640 bytes (Q4_1), less than its way from memory.

#include <cstring>

#include "product/block_types.h"
#include "product/int8_avx512_inl.h"
#include "product/packed_layout.h"

#if LACAKE_PRODUCT_AVX512

HWY_BEFORE_AVX512_VNNI();
namespace lacake::product::avx512 {
namespace {

constexpr std::size_t kColumns = 4;

__m512 halves_at(const std::byte* at) { return _mm512_cvtph_ps(load32(at)); }

// Rows 16 * half ..., columns 4g .. 4g + 3 of a part, one weight a byte.
template <PackedFormat f>
HWY_INLINE __m512i weights_at(const std::byte* part, std::size_t half, std::size_t g) {
  const std::byte* values = part + f.values() + half * 64;
  if constexpr (f.bits == 8) return _mm512_loadu_si512(values + g * 4 * kTileRows);
  __m512i w = _mm512_loadu_si512(values + g % 4 * 4 * kTileRows);
  if (g >= 4) w = _mm512_srli_epi16(w, 4);
  w = _mm512_and_si512(w, _mm512_set1_epi8(15));
  if constexpr (f.bits == 5) {
    std::uint64_t fifth;
    std::memcpy(&fifth, part + f.upper() + (g * 2 + half) * 8, 8);
    w = _mm512_mask_add_epi8(w, fifth, w, _mm512_set1_epi8(16));
  }
  if constexpr (f.bits == 6) {
    const __m512i upper = _mm512_loadu_si512(part + f.upper() + g % 2 * 4 * kTileRows + half * 64);
    const unsigned at = (unsigned)g / 2 * 2;  // in the bytes; wanted at bit 4
    const __m512i moved = at < 4 ? _mm512_slli_epi16(upper, 4 - at) : _mm512_srli_epi16(upper, at - 4);
    w = _mm512_or_si512(w, _mm512_and_si512(moved, _mm512_set1_epi8(0x30)));
  }
  if constexpr (f.has_values) {
    w = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)kIq4Values)), w);
  }
  return w;
}

__m512 fine_at(const std::byte* at) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)at)));
}
__m512 signed_fine_at(const std::byte* at) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)at)));
}

// n columns. Groups of columns are summed in two halves: where scales are of half a part, those of one each, else even
// and odd ones, so that chains of dot products stay short; integers, so that it shows in no result.
template <PackedFormat f, std::size_t n>
void multiply(const std::byte* tile, std::size_t n_in, const Column* x, float* out, std::size_t out_stride,
              std::uint32_t rows) {
  __m512 sum[n][2];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < n; ++c) sum[c][0] = sum[c][1] = _mm512_setzero_ps();

  for (std::size_t b = 0; b < n_in / kBlock; tile += f.bytes()) {
    for (std::size_t p = 0; p < f.n_parts; ++p, ++b) {
      const std::byte* part = tile + f.part(p);
      constexpr std::size_t kStep = f.is_k() ? f.part_bytes() : f.bytes();
      for (std::size_t i = 0; i < kStep; i += 64) _mm_prefetch((const char*)part + 8 * kStep + i, _MM_HINT_T0);
      __m512i dots[n][2][2], zeros[n][2];
#pragma GCC unroll 8
      for (std::size_t c = 0; c < n; ++c) {
        dots[c][0][0] = dots[c][0][1] = dots[c][1][0] = dots[c][1][1] = _mm512_setzero_si512();
        zeros[c][0] = zeros[c][1] = _mm512_setzero_si512();
      }
#pragma GCC unroll 8
      for (std::size_t g = 0; g < kBlock / 4; ++g) {
        const __m512i first = weights_at<f>(part, 0, g), second = weights_at<f>(part, 1, g);
        const std::size_t sums = f.has_halves() ? g / 4 : g % 2;
#pragma GCC unroll 8
        for (std::size_t c = 0; c < n; ++c) {
          const __m512i bytes = four_bytes(x[c].values + b * kBlock + 4 * g);
          dots[c][0][sums] = _mm512_dpbusd_epi32(dots[c][0][sums], first, bytes);
          dots[c][1][sums] = _mm512_dpbusd_epi32(dots[c][1][sums], second, bytes);
          if constexpr (f.has_halves()) {
            zeros[c][sums] = _mm512_dpbusd_epi32(zeros[c][sums], _mm512_set1_epi8((char)f.zero), bytes);
          }
        }
      }
#pragma GCC unroll 2
      for (std::size_t half = 0; half < 2; ++half) {
        const __m512 scale = halves_at(tile + half * 32);
        if constexpr (f.has_halves()) {
          const __m512 first = _mm512_mul_ps(scale, signed_fine_at(part + half * 16));
          const __m512 second = _mm512_mul_ps(scale, signed_fine_at(part + f.second_fine() + half * 16));
#pragma GCC unroll 8
          for (std::size_t c = 0; c < n; ++c) {
            const __m512 a = _mm512_cvtepi32_ps(_mm512_sub_epi32(dots[c][half][0], zeros[c][0]));
            const __m512 z = _mm512_cvtepi32_ps(_mm512_sub_epi32(dots[c][half][1], zeros[c][1]));
            const __m512 scaled = _mm512_fmadd_ps(a, first, _mm512_mul_ps(z, second));
            sum[c][half] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(x[c].scales[b]), sum[c][half]);
          }
          continue;
        }
        __m512 finer = scale, offset;
        if constexpr (f.is_k()) {
          finer = _mm512_mul_ps(scale, fine_at(part + half * 16));
          offset = _mm512_mul_ps(halves_at(tile + f.least() + half * 32), fine_at(part + f.second_fine() + half * 16));
          offset = _mm512_sub_ps(_mm512_setzero_ps(), offset);
        } else if constexpr (f.has_least) {
          offset = halves_at(tile + f.least() + half * 32);
        } else {
          offset = _mm512_mul_ps(scale, _mm512_set1_ps(-(float)f.zero));
        }
#pragma GCC unroll 8
        for (std::size_t c = 0; c < n; ++c) {
          const __m512i all = _mm512_add_epi32(dots[c][half][0], dots[c][half][1]);
          const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(all), finer);
          sum[c][half] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(x[c].scales[b]), sum[c][half]);
          sum[c][half] = _mm512_fmadd_ps(offset, _mm512_set1_ps(x[c].sums[b]), sum[c][half]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t c = 0; c < n; ++c) {
    _mm512_mask_storeu_ps(out + c * out_stride, (__mmask16)rows, sum[c][0]);
    _mm512_mask_storeu_ps(out + c * out_stride + 16, (__mmask16)(rows >> 16), sum[c][1]);
  }
}

}  // namespace

void multiply_packed(const Packed& m, std::size_t tile, const std::byte* columns, std::size_t n_columns, float* out,
                     std::size_t out_stride) {
  const std::size_t n_rows = m.n_out() - tile * kTileRows, n_in = m.n_in();
  const std::uint32_t rows = n_rows >= kTileRows ? ~0u : (1u << n_rows) - 1;
  const std::byte* from = m.tile(tile);
  with_packed_format(m.type(), [&]<PackedFormat f> {
    for (std::size_t c = 0; c < n_columns; c += kColumns) {
      const std::size_t n = n_columns - c < kColumns ? n_columns - c : kColumns;
      Column x[kColumns];
      for (std::size_t i = 0; i < n; ++i) x[i] = column_at(columns, n_in, c + i);
      float* to = out + c * out_stride + tile * kTileRows;
      switch (n) {
        case 4:
          multiply<f, 4>(from, n_in, x, to, out_stride, rows);
          break;
        case 3:
          multiply<f, 3>(from, n_in, x, to, out_stride, rows);
          break;
        case 2:
          multiply<f, 2>(from, n_in, x, to, out_stride, rows);
          break;
        default:
          multiply<f, 1>(from, n_in, x, to, out_stride, rows);
          break;
      }
    }
  });
}

}  // namespace lacake::product::avx512
HWY_AFTER_AVX512_VNNI();

#endif  // LACAKE_PRODUCT_AVX512
