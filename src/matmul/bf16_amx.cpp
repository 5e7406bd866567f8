// The products of bf16.h in the words of Intel's AMX: eight tile registers of 16 rows of 64 bytes. Four hold sums (32
// columns by 32 rows of weights), two numbers of columns, two weights, so that every tile loaded is multiplied twice.

#include <algorithm>

#include "cpu/matrix_unit.h"
#include "cpu/target.h"
#include "matmul/bf16.h"

#if LACAKE_MATRIX_UNIT
#include <immintrin.h>
// GCC 12 takes its own intrinsics' undefined operands for mistakes (its bug 105593).
#if HWY_COMPILER_GCC_ACTUAL
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace lacake::matmul {
namespace {

using cpu::kTileBytes;  // 16 rows of 32 bf16, or of 16 f32

std::size_t blocks_of(std::size_t n_in) { return (n_in + kBlock - 1) / kBlock; }

}  // namespace

std::size_t column_block_bytes(std::size_t n_in, Pieces pieces) {
  return blocks_of(n_in) * (std::size_t)pieces * kTileBytes;
}

std::size_t split_tile_bytes(std::size_t n_in, Pieces pieces) {
  return blocks_of(n_in) * (std::size_t)pieces * 2 * kTileBytes;
}

#if LACAKE_MATRIX_UNIT

bool has_bf16() { return cpu::uses_matrix_unit(); }

HWY_PUSH_ATTRIBUTES("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16") static_assert(true, "");
namespace {

// 32 numbers as bf16: hi, and what is left as lo.
struct Split {
  __m512i hi, lo;
};

__m512i nearest(__m512 first, __m512 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }

// Words i of `first` and of `second` side by side: word 2i, word 2i + 1.
__m512i interleaved(__m512i words) {
  alignas(64) static constexpr auto kOrder = [] {
    struct {
      std::uint16_t at[32];
    } order{};
    for (std::uint16_t i = 0; i < 32; ++i) order.at[i] = (std::uint16_t)(i / 2 + i % 2 * 16);
    return order;
  }();
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder.at), words);
}

__m512 floats_of(__m256i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16)); }

// In order: `first`, then `second`.
template <Pieces pieces>
Split split_in_order(__m512 first, __m512 second) {
  Split out{nearest(first, second), _mm512_setzero_si512()};
  if constexpr (pieces == Pieces::kTwo) {
    out.lo = nearest(_mm512_sub_ps(first, floats_of(_mm512_castsi512_si256(out.hi))),
                     _mm512_sub_ps(second, floats_of(_mm512_extracti64x4_epi64(out.hi, 1))));
  }
  return out;
}

// As neighbours: even's number i, odd's number i.
template <Pieces pieces>
Split split_as_pairs(__m512 even, __m512 odd) {
  Split out{interleaved(nearest(even, odd)), _mm512_setzero_si512()};
  if constexpr (pieces == Pieces::kTwo) {
    const __m512 even_hi = _mm512_castsi512_ps(_mm512_slli_epi32(out.hi, 16));
    const __m512 odd_hi = _mm512_castsi512_ps(_mm512_and_si512(out.hi, _mm512_set1_epi32((int)0xffff0000)));
    out.lo = interleaved(nearest(_mm512_sub_ps(even, even_hi), _mm512_sub_ps(odd, odd_hi)));
  }
  return out;
}

template <Pieces pieces>
void store_pairs(__m512 even, __m512 odd, std::byte* hi) {
  const Split words = split_as_pairs<pieces>(even, odd);
  _mm512_store_si512(hi, words.hi);
  if constexpr (pieces == Pieces::kTwo) _mm512_store_si512(hi + 2 * kTileBytes, words.lo);
}

template <Pieces pieces>
void split_columns_of(const float* x, std::size_t n_in, std::byte* to) {
  for (std::size_t k = 0; k < n_in; k += kBlock) {
    const std::size_t n = std::min(kBlock, n_in - k);
    const auto some = n == kBlock ? ~0u : (1u << n) - 1;
    const Split words = split_in_order<pieces>(_mm512_maskz_loadu_ps((__mmask16)some, x + k),
                                               _mm512_maskz_loadu_ps((__mmask16)(some >> 16), x + k + 16));
    _mm512_store_si512(to, words.hi);
    if constexpr (pieces == Pieces::kTwo) _mm512_store_si512(to + kTileBytes, words.lo);
    to += (std::size_t)pieces * kTileBytes;
  }
}

template <Pieces pieces>
void split_rows(const float* tile, std::size_t n_in, std::byte* to) {
  for (std::size_t k = 0; k < n_in; k += kBlock, to += (std::size_t)pieces * 2 * kTileBytes) {
    for (std::size_t half = 0; half < 2; ++half) {
      for (std::size_t pair = 0; pair < kBlock; pair += 2) {
        const float* at = tile + (k + pair) * kTileRows + half * 16;
        const __m512 even = k + pair < n_in ? _mm512_loadu_ps(at) : _mm512_setzero_ps();
        const __m512 odd = k + pair + 1 < n_in ? _mm512_loadu_ps(at + kTileRows) : _mm512_setzero_ps();
        store_pairs<pieces>(even, odd, to + half * kTileBytes + pair * 32);
      }
    }
  }
}

template <Pieces pieces>
void split_rows(const Tile& tile, std::size_t n_in, std::byte* to) {
  const __m512i byte = _mm512_set1_epi32(255);
  const std::uint8_t* values = tile.values;
  for (std::size_t b = 0; b < n_in / kBlock; ++b, to += (std::size_t)pieces * 2 * kTileBytes) {
    const float* scales = tile.scales + b * kTileRows;
    const float* offsets = tile.offsets + b * kTileRows;
    for (std::size_t k = 0; k < kBlock; k += 4, values += 4 * kTileRows) {
      for (std::size_t half = 0; half < 2; ++half) {
        const __m512 scale = _mm512_loadu_ps(scales + half * 16), offset = _mm512_loadu_ps(offsets + half * 16);
        // Four columns of a row are the four bytes of a lane.
        const __m512i four = _mm512_loadu_si512(values + half * 64);
        const auto number = [&](__m512i lanes) {
          return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_and_si512(lanes, byte)), scale, offset);
        };
        std::byte* at = to + half * kTileBytes + k * 32;
        store_pairs<pieces>(number(four), number(_mm512_srli_epi32(four, 8)), at);
        store_pairs<pieces>(number(_mm512_srli_epi32(four, 16)), number(_mm512_srli_epi32(four, 24)), at + 64);
      }
    }
  }
}

}  // namespace

void split_column(const float* x, std::size_t n_in, Pieces pieces, std::size_t index, std::byte* block) {
  const auto with = pieces == Pieces::kOne ? split_columns_of<Pieces::kOne> : split_columns_of<Pieces::kTwo>;
  with(x, n_in, block + index * 64);
}

void split_tile(const float* tile, std::size_t n_in, Pieces pieces, std::byte* to) {
  pieces == Pieces::kOne ? split_rows<Pieces::kOne>(tile, n_in, to) : split_rows<Pieces::kTwo>(tile, n_in, to);
}

void split_tile(const Tile& tile, std::size_t n_in, Pieces pieces, std::byte* to) {
  pieces == Pieces::kOne ? split_rows<Pieces::kOne>(tile, n_in, to) : split_rows<Pieces::kTwo>(tile, n_in, to);
}

namespace {

// Registers: 0 and 1 sums of the first 16 columns with either half of the rows, 2 and 3 those of the next 16 columns;
// 4 and 5 columns; 6 and 7 weights.

template <bool two>
void load_columns(const std::byte* first, const std::byte* second) {
  cpu::load_tile<4>(first, 64);
  if constexpr (two) cpu::load_tile<5>(second, 64);
}

void load_weights(const std::byte* at) {
  cpu::load_tile<6>(at, 64);
  cpu::load_tile<7>(at + kTileBytes, 64);
}

template <bool two>
void add_products() {
  cpu::add_products_bf16<0, 4, 6>();
  cpu::add_products_bf16<1, 4, 7>();
  if constexpr (two) {
    cpu::add_products_bf16<2, 5, 6>();
    cpu::add_products_bf16<3, 5, 7>();
  }
}

// Adds a panel of n_blocks blocks of 32 to the sums in `out`, of one block of columns or of `two`.
template <Pieces pieces, bool two>
void multiply_panel(const std::byte* weights, std::size_t n_blocks, const std::byte* first, const std::byte* second,
                    bool begin, float* out, std::size_t out_stride) {
  const std::size_t row = out_stride * sizeof(float);
  float* next = out + kColumnBlock * out_stride;
  if (begin) {
    cpu::clear_tile<0>();
    cpu::clear_tile<1>();
    if constexpr (two) {
      cpu::clear_tile<2>();
      cpu::clear_tile<3>();
    }
  } else {
    cpu::load_tile<0>(out, row);
    cpu::load_tile<1>(out + 16, row);
    if constexpr (two) {
      cpu::load_tile<2>(next, row);
      cpu::load_tile<3>(next + 16, row);
    }
  }
  for (std::size_t b = 0; b < n_blocks; ++b) {
    load_columns<two>(first, second);
    load_weights(weights);
    add_products<two>();
    if constexpr (pieces == Pieces::kTwo) {
      load_weights(weights + 2 * kTileBytes);
      add_products<two>();
      load_columns<two>(first + kTileBytes, second + kTileBytes);
      load_weights(weights);
      add_products<two>();
    }
    constexpr std::size_t kStep = (std::size_t)pieces * kTileBytes;
    first += kStep;
    second += kStep;
    weights += 2 * kStep;
  }
  cpu::store_tile<0>(out, row);
  cpu::store_tile<1>(out + 16, row);
  if constexpr (two) {
    cpu::store_tile<2>(next, row);
    cpu::store_tile<3>(next + 16, row);
  }
}

// A panel of weights (24 KB) and the sums of a group of columns (8 KB) stay in L1 while the group's columns pass.
template <Pieces pieces>
constexpr std::size_t kPanel = 12 / (std::size_t)pieces;  // blocks of 32 weights
constexpr std::size_t kGroup = 4;                         // blocks of columns

template <Pieces pieces>
void multiply(const std::byte* tile, std::size_t n_in, std::size_t n_rows, const std::byte* columns,
              std::size_t n_columns, float* out, std::size_t out_stride) {
  constexpr std::size_t kStep = (std::size_t)pieces * kTileBytes;
  const cpu::MatrixRegisters registers;
  const auto rows = n_rows == kTileRows ? ~0u : (1u << n_rows) - 1;
  const auto first_rows = (__mmask16)rows, second_rows = (__mmask16)(rows >> 16);
  alignas(64) float sums[kGroup * kColumnBlock * kTileRows];
  const std::size_t n_blocks = blocks_of(n_in), block_bytes = column_block_bytes(n_in, pieces);
  for (std::size_t c = 0; c < n_columns; c += kGroup * kColumnBlock) {
    const std::size_t n = std::min(kGroup * kColumnBlock, n_columns - c);
    const std::size_t n_column_blocks = (n + kColumnBlock - 1) / kColumnBlock;
    const std::byte* group = columns + c / kColumnBlock * block_bytes;
    for (std::size_t b = 0; b < n_blocks; b += kPanel<pieces>) {
      const std::size_t n_panel = std::min(kPanel<pieces>, n_blocks - b);
      for (std::size_t i = 0; i < n_column_blocks; i += 2) {
        const std::byte* first = group + i * block_bytes + b * kStep;
        const auto with = i + 1 < n_column_blocks ? multiply_panel<pieces, true> : multiply_panel<pieces, false>;
        with(tile + b * 2 * kStep, n_panel, first, first + block_bytes, b == 0, sums + i * kColumnBlock * kTileRows,
             kTileRows);
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      float* to = out + (c + i) * out_stride;
      _mm512_mask_storeu_ps(to, first_rows, _mm512_load_ps(sums + i * kTileRows));
      _mm512_mask_storeu_ps(to + 16, second_rows, _mm512_load_ps(sums + i * kTileRows + 16));
    }
  }
}

}  // namespace

void multiply_tile_bf16(const std::byte* tile, std::size_t n_in, std::size_t n_rows, Pieces pieces,
                        const std::byte* columns, std::size_t n_columns, float* out, std::size_t out_stride) {
  const auto with = pieces == Pieces::kOne ? multiply<Pieces::kOne> : multiply<Pieces::kTwo>;
  with(tile, n_in, n_rows, columns, n_columns, out, out_stride);
}
HWY_POP_ATTRIBUTES static_assert(true, "");

#else

bool has_bf16() { return false; }
void split_column(const float*, std::size_t, Pieces, std::size_t, std::byte*) {}
void split_tile(const float*, std::size_t, Pieces, std::byte*) {}
void split_tile(const Tile&, std::size_t, Pieces, std::byte*) {}
void multiply_tile_bf16(const std::byte*, std::size_t, std::size_t, Pieces, const std::byte*, std::size_t, float*,
                        std::size_t) {}

#endif  // LACAKE_MATRIX_UNIT

}  // namespace lacake::matmul
