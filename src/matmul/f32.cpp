#include "matmul/f32.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "matmul/f32.cpp"
// Vectors stand in arrays here, which instruction sets without a fixed width do not allow.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#include "hwy/foreach_target.h"  // must come before highway.h

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::matmul {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;

// Columns at a time: two vectors of rows for each, and as many sums as leave registers for the two weights and the
// broadcast number. More sums would not hide more latency, fewer would load each weight more often.
constexpr std::size_t kColumns = HWY_TARGET <= HWY_AVX3 ? 12 : 6;

// n columns times 2 vectors of rows.
template <std::size_t n>
HWY_INLINE void multiply(const float* tile, std::size_t n_in, std::size_t n_rows, const float* x, std::size_t x_stride,
                         float* out, std::size_t out_stride) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  Vector sum[n][2];
#pragma GCC unroll 16
  for (std::size_t c = 0; c < n; ++c) sum[c][0] = sum[c][1] = hn::Zero(d);
  for (std::size_t k = 0; k < n_in; ++k, tile += kTileRows) {
    const Vector first = hn::LoadU(d, tile), second = hn::LoadU(d, tile + lanes);
#pragma GCC unroll 16
    for (std::size_t c = 0; c < n; ++c) {
      const Vector number = hn::Set(d, x[c * x_stride + k]);
      sum[c][0] = hn::MulAdd(first, number, sum[c][0]);
      sum[c][1] = hn::MulAdd(second, number, sum[c][1]);
    }
  }
  if (n_rows >= 2 * lanes) {
#pragma GCC unroll 16
    for (std::size_t c = 0; c < n; ++c) {
      hn::StoreU(sum[c][0], d, out + c * out_stride);
      hn::StoreU(sum[c][1], d, out + c * out_stride + lanes);
    }
    return;
  }
  HWY_ALIGN float rows[2 * 16];
#pragma GCC unroll 16
  for (std::size_t c = 0; c < n; ++c) {
    hn::Store(sum[c][0], d, rows);
    hn::Store(sum[c][1], d, rows + lanes);
    std::copy_n(rows, n_rows, out + c * out_stride);
  }
}

template <std::size_t n>
HWY_INLINE void multiply_rest(std::size_t n_columns, const float* tile, std::size_t n_in, std::size_t n_rows,
                              const float* x, std::size_t x_stride, float* out, std::size_t out_stride) {
  if constexpr (n > 0) {
    if (n_columns == n) return multiply<n>(tile, n_in, n_rows, x, x_stride, out, out_stride);
    multiply_rest<n - 1>(n_columns, tile, n_in, n_rows, x, x_stride, out, out_stride);
  }
}

}  // namespace

void multiply_tile_f32(const float* tile, std::size_t n_in, std::size_t n_rows, const float* x, std::size_t x_stride,
                       std::size_t n_columns, float* out, std::size_t out_stride) {
  const std::size_t abreast = 2 * hn::Lanes(Floats());
  for (std::size_t c = 0; c < n_columns; c += kColumns) {
    const std::size_t n = std::min(kColumns, n_columns - c);
    for (std::size_t row = 0; row < n_rows; row += abreast) {
      const std::size_t rows = std::min(abreast, n_rows - row);
      const float* from = x + c * x_stride;
      float* to = out + c * out_stride + row;
      if (n == kColumns) {
        multiply<kColumns>(tile + row, n_in, rows, from, x_stride, to, out_stride);
      } else {
        multiply_rest<kColumns - 1>(n, tile + row, n_in, rows, from, x_stride, to, out_stride);
      }
    }
  }
}

void expand_tile(const Tile& tile, std::size_t n_in, float* to) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t k = 0; k < n_in; k += 4) {
    const std::size_t block = k / kBlock * kTileRows;
    for (std::size_t row = 0; row < kTileRows; row += lanes) {
      // Four columns of a row are the four bytes of a lane.
      auto bytes = hn::LoadU(di, (const std::int32_t*)(tile.values + k * kTileRows) + row);
      const Vector scale = hn::LoadU(d, tile.scales + block + row), offset = hn::LoadU(d, tile.offsets + block + row);
      for (std::size_t j = 0; j < 4; ++j) {
        const Vector q = hn::ConvertTo(d, hn::And(bytes, hn::Set(di, 255)));
        hn::StoreU(hn::MulAdd(q, scale, offset), d, to + (k + j) * kTileRows + row);
        bytes = hn::ShiftRight<8>(bytes);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::matmul
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::matmul {

HWY_EXPORT(multiply_tile_f32);
HWY_EXPORT(expand_tile);

void multiply_tile_f32(const float* tile, std::size_t n_in, std::size_t n_rows, const float* x, std::size_t x_stride,
                       std::size_t n_columns, float* out, std::size_t out_stride) {
  HWY_DYNAMIC_DISPATCH(multiply_tile_f32)(tile, n_in, n_rows, x, x_stride, n_columns, out, out_stride);
}

void expand_tile(const Tile& tile, std::size_t n_in, float* to) { HWY_DYNAMIC_DISPATCH(expand_tile)(tile, n_in, to); }

}  // namespace lacake::matmul
#endif  // HWY_ONCE
