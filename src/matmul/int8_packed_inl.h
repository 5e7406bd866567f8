// Few columns: packed tiles, read once as a stream. Each lane is a row, so that no sum runs across lanes; with AVX-512
// a block of 32 rows and 32 columns takes about 60 vector instructions for its 640 bytes (Q4_1), with AVX2 about 150:
// either takes less than its way from memory. See int8_targets.h.

namespace lacake::matmul::LACAKE_INT8_TARGET {
namespace {

// What is multiplied as bytes: a table's values have all 8 bits.
constexpr int weight_bits(PackedFormat f) { return f.has_values ? 8 : f.bits; }
// What Dots leave of a format's zero.
constexpr int zero_of(PackedFormat f) { return f.zero - (weight_bits(f) == 8 ? kEightBitZero : 0); }

// Rows kLanes * v ..., columns 4g .. 4g + 3 of a part, one weight a byte.
template <PackedFormat f, std::size_t g>
HWY_INLINE Vector weights_at(const std::byte* part, std::size_t v) {
  const std::byte* values = part + f.values() + v * 4 * kLanes;
  if constexpr (f.bits == 8) return load(values + g * 4 * kTileRows);
  Vector w = load(values + g % 4 * 4 * kTileRows);
  if constexpr (g >= 4) w = shifted_right<4>(w);
  w = both(w, every_byte(15));
  if constexpr (f.bits == 5) w = either(w, sixteens(part + f.upper() + g * kTileRows / 2 + v * kLanes / 2));
  if constexpr (f.bits == 6) {
    const Vector upper = load(part + f.upper() + g % 2 * 4 * kTileRows + v * 4 * kLanes);
    constexpr unsigned at = g / 2 * 2;  // in the bytes; wanted at bit 4
    Vector moved = upper;
    if constexpr (at < 4) moved = shifted_left<4 - at>(upper);
    if constexpr (at > 4) moved = shifted_right<at - 4>(upper);
    w = either(w, both(moved, every_byte(0x30)));
  }
  if constexpr (f.has_values) w = looked_up(kIq4Values, w);
  return w;
}

// The integer sums of a part's rows in two vectors, v and v + 1, with n columns. Groups of four weights are summed in
// two halves: where scales are of half a part, those of one each, else even and odd ones, so that chains of dot
// products stay short; integers, so that it shows in no result.
template <PackedFormat f, std::size_t n>
struct PartDots {
  Dots<weight_bits(f)> of[n][2][2];
  Dots<weight_bits(f)> zeros[n][2];  // only where scales are of half a part

  template <std::size_t... g>
  HWY_INLINE void add_all(const std::byte* part, std::size_t v, const Column* x, std::size_t column,
                          std::index_sequence<g...>) {
    (add<g>(part, v, x, column), ...);
  }
  template <std::size_t g>
  HWY_INLINE void add(const std::byte* part, std::size_t v, const Column* x, std::size_t column) {
    const Vector first = weights_at<f, g>(part, v), second = weights_at<f, g>(part, v + 1);
    constexpr std::size_t half = f.has_halves() ? g / 4 : g % 2, before = f.has_halves() ? g % 4 : g / 2;
#pragma GCC unroll 8
    for (std::size_t c = 0; c < n; ++c) {
      const Vector bytes = every_four(four_of(x[c], column + 4 * g));
      of[c][0][half].add(first, bytes, before);
      of[c][1][half].add(second, bytes, before);
      if constexpr (f.has_halves() && zero_of(f) != 0) zeros[c][half].add(every_byte(f.zero), bytes, before);
    }
  }
};

// Of half a part, less the zero.
template <PackedFormat f, std::size_t n>
HWY_INLINE Floats half_dots(const PartDots<f, n>& dots, std::size_t c, std::size_t i, std::size_t half) {
  if constexpr (zero_of(f) == 0) return floats(dots.of[c][i][half].sums);
  return floats(difference(dots.of[c][i][half].sums, dots.zeros[c][half].sums));
}

template <PackedFormat f, std::size_t n>
void multiply(const std::byte* tile, std::size_t n_in, const Column* x, float* out, std::size_t out_stride,
              std::size_t n_rows) {
  constexpr std::size_t kVectors = kTileRows / kLanes;
  Floats total[n][kVectors];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < n; ++c) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kVectors; ++v) total[c][v] = zero();
  }

  for (std::size_t b = 0; b < n_in / kBlock; tile += f.bytes()) {
    for (std::size_t p = 0; p < f.n_parts; ++p, ++b) {
      const std::byte* part = tile + f.part(p);
      constexpr std::size_t kStep = f.is_k() ? f.part_bytes() : f.bytes();
      for (std::size_t i = 0; i < kStep; i += 64)
        _mm_prefetch((const char*)part + kAheadSteps * kStep + i, _MM_HINT_T0);
#pragma GCC unroll 2
      for (std::size_t pair = 0; pair < kVectors; pair += 2) {
        PartDots<f, n> dots;
        dots.add_all(part, pair, x, b * kBlock, std::make_index_sequence<kBlock / 4>());
#pragma GCC unroll 2
        for (std::size_t i = 0; i < 2; ++i) {
          const std::size_t v = pair + i;
          const Floats scale = f16s_at(tile + v * kLanes * 2);
          const std::byte* fine = part + v * kLanes;
          if constexpr (f.has_halves()) {
            const Floats first = product(scale, signed_bytes_at(fine));
            const Floats second = product(scale, signed_bytes_at(fine + f.second_fine()));
#pragma GCC unroll 8
            for (std::size_t c = 0; c < n; ++c) {
              const Floats scaled =
                  multiply_add(half_dots(dots, c, i, 0), first, product(half_dots(dots, c, i, 1), second));
              total[c][v] = multiply_add(scaled, every(x[c].scales[b]), total[c][v]);
            }
            continue;
          }
          Floats finer = scale, offset;
          constexpr bool kHasOffset = f.has_least || zero_of(f) != 0;
          if constexpr (f.is_k()) {
            finer = product(scale, bytes_at(fine));
            offset = minus(product(f16s_at(tile + f.least() + v * kLanes * 2), bytes_at(fine + f.second_fine())));
          } else if constexpr (f.has_least) {
            offset = f16s_at(tile + f.least() + v * kLanes * 2);
          } else {
            offset = product(scale, every(-(float)zero_of(f)));
          }
#pragma GCC unroll 8
          for (std::size_t c = 0; c < n; ++c) {
            const Floats scaled = product(floats(sum(dots.of[c][i][0].sums, dots.of[c][i][1].sums)), finer);
            total[c][v] = multiply_add(scaled, every(x[c].scales[b]), total[c][v]);
            if constexpr (kHasOffset) total[c][v] = multiply_add(offset, every(x[c].sums[b]), total[c][v]);
          }
        }
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t c = 0; c < n; ++c) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kVectors; ++v) {
      const std::size_t begin = v * kLanes;
      store(total[c][v], n_rows > begin ? n_rows - begin : 0, out + c * out_stride + begin);
    }
  }
}

// n_columns as a constant: at most n.
template <PackedFormat f, std::size_t n>
HWY_INLINE void multiply_rest(std::size_t n_columns, const std::byte* tile, std::size_t n_in, const Column* x,
                              float* out, std::size_t out_stride, std::size_t n_rows) {
  if constexpr (n > 0) {
    if (n_columns == n) return multiply<f, n>(tile, n_in, x, out, out_stride, n_rows);
    multiply_rest<f, n - 1>(n_columns, tile, n_in, x, out, out_stride, n_rows);
  }
}

}  // namespace

// Tile by tile, so that a tile is still near when the next columns come.
void multiply_packed(const Packed& m, TileRange tiles, const std::byte* columns, std::size_t n_columns, float* out,
                     std::size_t out_stride) {
  const std::size_t n_in = m.n_in();
  with_packed_format(m.type(), [&]<PackedFormat f> {
    Column x[kPackedColumns];
    for (std::size_t tile = tiles.first; tile < tiles.last; ++tile) {
      for (std::size_t c = 0; c < n_columns; c += kPackedColumns) {
        const std::size_t n = n_columns - c < kPackedColumns ? n_columns - c : kPackedColumns;
        const bool same = c == 0 && n == n_columns && tile > tiles.first;  // as for the tile before
        for (std::size_t i = 0; i < n && !same; ++i) x[i] = column_at(columns, n_in, c + i);
        multiply_rest<f, kPackedColumns>(n, m.tile(tile), n_in, x, out + c * out_stride + tile * kTileRows, out_stride,
                                         m.n_out() - tile * kTileRows);
      }
    }
  });
}

}  // namespace lacake::matmul::LACAKE_INT8_TARGET
