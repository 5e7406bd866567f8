// Many columns: a tile of 32 rows, unpacked once, times all columns of a batch. Several columns and two vectors of rows
// at a time, as many as there are registers for integer and float sums of each: six with AVX-512, three with AVX2.
// Each weight loaded is used once a column, and each column's four bytes, broadcast, twice. With AVX-512, for each
// block of 32, 8 of 11 instructions on the multipliers are dot products; the others apply the block's scale and offset.
// See int8_targets.h.

namespace lacake::matmul::LACAKE_INT8_TARGET {
namespace {

// n columns: c, c + 1, ...; two vectors of rows from `row` on. Unrolled by the compiler, sums in registers.
template <int bits, std::size_t n>
HWY_INLINE void multiply(const Tile& tile, std::size_t row, std::size_t n_blocks, const Column* x, std::size_t n_rows,
                         float* out, std::size_t out_stride) {
  Floats total[n][2];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < n; ++c) total[c][0] = total[c][1] = zero();

  const std::uint8_t* values = tile.values + row * 4;
  for (std::size_t b = 0; b < n_blocks; ++b) {
    Dots<bits> dots[n][2];
#pragma GCC unroll 8
    for (std::size_t g = 0; g < kBlock / 4; ++g, values += 4 * kTileRows) {
      const Vector first = load(values), second = load(values + 4 * kLanes);
#pragma GCC unroll 8
      for (std::size_t c = 0; c < n; ++c) {
        const Vector bytes = every_four(four_of(x[c], b * kBlock + 4 * g));
        dots[c][0].add(first, bytes, g);
        dots[c][1].add(second, bytes, g);
      }
    }
#pragma GCC unroll 2
    for (std::size_t i = 0; i < 2; ++i) {
      const Floats scale = load_floats(tile.scales + b * kTileRows + row + kLanes * i);
      Floats offset = load_floats(tile.offsets + b * kTileRows + row + kLanes * i);
      if constexpr (bits == 8 && kEightBitZero != 0) offset = multiply_add(scale, every(kEightBitZero), offset);
#pragma GCC unroll 8
      for (std::size_t c = 0; c < n; ++c) {
        const Floats scaled = product(floats(dots[c][i].sums), scale);
        total[c][i] = multiply_add(scaled, every(x[c].scales[b]), total[c][i]);
        total[c][i] = multiply_add(offset, every(x[c].sums[b]), total[c][i]);
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t c = 0; c < n; ++c) {
#pragma GCC unroll 2
    for (std::size_t i = 0; i < 2; ++i) {
      const std::size_t begin = row + i * kLanes;
      store(total[c][i], n_rows > begin ? n_rows - begin : 0, out + c * out_stride + begin);
    }
  }
}

template <int bits, std::size_t n>
HWY_INLINE void multiply_rest(std::size_t n_columns, const Tile& tile, std::size_t n_blocks, const Column* x,
                              std::size_t n_rows, float* out, std::size_t out_stride) {
  if constexpr (n > 0) {
    if (n_columns != n) return multiply_rest<bits, n - 1>(n_columns, tile, n_blocks, x, n_rows, out, out_stride);
    for (std::size_t row = 0; row < n_rows; row += 2 * kLanes) {
      multiply<bits, n>(tile, row, n_blocks, x, n_rows, out, out_stride);
    }
  }
}

template <int bits>
void multiply_all(const Tile& tile, std::size_t n_in, std::size_t n_rows, const std::byte* columns,
                  std::size_t n_columns, float* out, std::size_t out_stride) {
  for (std::size_t c = 0; c < n_columns; c += kTileColumns) {
    const std::size_t n = n_columns - c < kTileColumns ? n_columns - c : kTileColumns;
    Column x[kTileColumns];
    for (std::size_t i = 0; i < n; ++i) x[i] = column_at(columns, n_in, c + i);
    multiply_rest<bits, kTileColumns>(n, tile, n_in / kBlock, x, n_rows, out + c * out_stride, out_stride);
  }
}

}  // namespace

void multiply_tile(const Tile& tile, int bits, std::size_t n_in, std::size_t n_rows, const std::byte* columns,
                   std::size_t n_columns, float* out, std::size_t out_stride) {
  // Where all widths are one to the vector unit, so they are here.
  const auto with = bits > 5 || kEightBitZero == 0 ? multiply_all<8> : multiply_all<5>;
  with(tile, n_in, n_rows, columns, n_columns, out, out_stride);
}

}  // namespace lacake::matmul::LACAKE_INT8_TARGET
