// Pairs of 16-bit integers (int16_dot_inl.h) on a matrix unit that multiplies bytes: a number is 256 * high + low, with
// a signed high byte and an unsigned low one, and a sum of products is that of
//   65536 high high' + 256 (high low' + low high') + low low'
// In 32 bits this is the same integer, to the last bit, that pairs give, in an eighth of the time and less.
//
// A plane is a tile of high bytes or of low ones. Along the sum numbers stand in steps of 64, filled up with zeros:
//   of rows     [64 bytes, 16 rows, 2 planes, steps]
//   of columns  [4 neighbours along the sum, 16 columns, 16, 2 planes, steps]

#include <cstddef>
#include <cstdint>

#include "attention/int16_dot_inl.h"
#include "attention/transpose_inl.h"
#include "attention/vector_inl.h"
#include "cpu/matrix_unit.h"

#if defined(LACAKE_ATTENTION_PLANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_PLANES_INL_H_
#undef LACAKE_ATTENTION_PLANES_INL_H_
#else
#define LACAKE_ATTENTION_PLANES_INL_H_
#endif

#undef LACAKE_ATTENTION_PLANES
#if LACAKE_ATTENTION_VNNI && LACAKE_MATRIX_UNIT
#define LACAKE_ATTENTION_PLANES 1
#else
#define LACAKE_ATTENTION_PLANES 0
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

#if LACAKE_ATTENTION_PLANES

inline constexpr std::size_t kPlane = cpu::kTileBytes;

// Pairs along the sum, of 16 columns each -> four high bytes and four low ones in each lane.
HWY_INLINE void split_pairs(Pairs first, Pairs second, Pairs& high, Pairs& low) {
  alignas(64) static constexpr auto kOrder = [] {
    struct {
      std::uint8_t high[64], low[64];
    } order{};
    for (std::uint8_t i = 0; i < 64; ++i) {
      const int from = i / 4 * 4 + i % 2 * 2 + (i % 4 >= 2 ? 64 : 0);  // a number's low byte
      order.low[i] = (std::uint8_t)from;
      order.high[i] = (std::uint8_t)(from + 1);
    }
    return order;
  }();
  const LanesOfPairs d;
  high = hn::Load(d, reinterpret_cast<const std::int32_t*>(kOrder.high));
  low = hn::Load(d, reinterpret_cast<const std::int32_t*>(kOrder.low));
  asm("vpermi2b %[second], %[first], %[order]"
      : [order] "+v"(high.raw)
      : [first] "v"(first.raw), [second] "v"(second.raw));
  asm("vpermi2b %[second], %[first], %[order]"
      : [order] "+v"(low.raw)
      : [first] "v"(first.raw), [second] "v"(second.raw));
}

// 16 columns of pairs, [n_pairs, stride] -> planes of columns.
HWY_INLINE void columns_to_planes(const std::int32_t* pairs, std::size_t n_pairs, std::size_t stride, std::byte* to) {
  const LanesOfPairs d;
  const auto load = [&](std::size_t i)
                        LACAKE_IN_REGISTERS { return i < n_pairs ? hn::LoadU(d, pairs + i * stride) : hn::Zero(d); };
  for (std::size_t step = 0; step * 32 < n_pairs; ++step, to += 2 * kPlane) {
    for (std::size_t i = 0; i < 32; i += 2) {
      Pairs high, low;
      split_pairs(load(step * 32 + i), load(step * 32 + i + 1), high, low);
      hn::StoreU(high, d, reinterpret_cast<std::int32_t*>(to + i * 32));
      hn::StoreU(low, d, reinterpret_cast<std::int32_t*>(to + kPlane + i * 32));
    }
  }
}

// One row of n numbers, n a multiple of 16 -> row `index` of planes of rows.
HWY_INLINE void row_to_planes(const std::uint16_t* row, std::size_t n, std::size_t index, std::byte* to) {
  to += index * cpu::kTileRowBytes;
  for (std::size_t step = 0; step < n; step += 64, to += 2 * kPlane) {
    for (std::size_t i = 0; i < 64; i += 16) {
      __m128i high = _mm_setzero_si128(), low = high;
      if (step + i < n) {
        const __m256i numbers = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + step + i));
        low = _mm256_cvtepi16_epi8(numbers);
        high = _mm256_cvtepi16_epi8(_mm256_srli_epi16(numbers, 8));
      }
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), high);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + kPlane + i), low);
    }
  }
}

// [16, 16] of 32 bits -> transposed.
HWY_INLINE void transpose_tile(const std::int32_t* from, std::int32_t* to) {
  const FourLanes f;
  const auto* rows = reinterpret_cast<const float*>(from);
  auto* columns = reinterpret_cast<float*>(to);
  for (std::size_t i = 0; i < 16; i += 4) {
    for (std::size_t j = 0; j < 16; j += 4) {
      FourFloats v[4];
      for (std::size_t r = 0; r < 4; ++r) v[r] = hn::LoadU(f, rows + (i + r) * 16 + j);
      transpose_four(v[0], v[1], v[2], v[3]);
      for (std::size_t r = 0; r < 4; ++r) hn::StoreU(v[r], f, columns + (j + r) * 16 + i);
    }
  }
}

// 16 columns of n_pairs pairs, as above -> planes whose rows the columns are.
HWY_INLINE void columns_to_rows_of_planes(const std::int32_t* pairs, std::size_t n_pairs, std::size_t stride,
                                          std::byte* to) {
  HWY_ALIGN std::byte columns[2 * kPlane];
  for (std::size_t step = 0; step < n_pairs; step += 32, to += 2 * kPlane) {
    columns_to_planes(pairs + step * stride, n_pairs - step < 32 ? n_pairs - step : 32, stride, columns);
    for (std::size_t plane = 0; plane < 2; ++plane) {
      transpose_tile(reinterpret_cast<const std::int32_t*>(columns + plane * kPlane),
                     reinterpret_cast<std::int32_t*>(to + plane * kPlane));
    }
  }
}

// Planes of 16 rows times planes of 32 columns, in two halves: each half's sums of the products of high with high
// bytes, of high with low and low with high, of low with low.
//   sums  [16, 16, 3, 2 halves] int32
HWY_INLINE void multiply_planes(const std::byte* rows, const std::byte* first, const std::byte* second,
                                std::size_t n_steps, std::int32_t* sums) {
  constexpr std::size_t kRow = cpu::kTileRowBytes;
  cpu::clear_tile<0>();
  cpu::clear_tile<1>();
  cpu::clear_tile<2>();
  cpu::clear_tile<3>();
  cpu::clear_tile<4>();
  cpu::clear_tile<5>();
  for (std::size_t step = 0; step < n_steps; ++step) {
    const std::size_t high = step * 2 * kPlane, low = high + kPlane;
    cpu::load_tile<6>(rows + high, kRow);
    cpu::load_tile<7>(first + high, kRow);
    cpu::add_products_ss<0, 6, 7>();
    cpu::load_tile<7>(second + high, kRow);
    cpu::add_products_ss<3, 6, 7>();
    cpu::load_tile<7>(first + low, kRow);
    cpu::add_products_su<1, 6, 7>();
    cpu::load_tile<7>(second + low, kRow);
    cpu::add_products_su<4, 6, 7>();
    cpu::load_tile<6>(rows + low, kRow);
    cpu::add_products_uu<5, 6, 7>();
    cpu::load_tile<7>(first + low, kRow);
    cpu::add_products_uu<2, 6, 7>();
    cpu::load_tile<7>(second + high, kRow);
    cpu::add_products_us<4, 6, 7>();
    cpu::load_tile<7>(first + high, kRow);
    cpu::add_products_us<1, 6, 7>();
  }
  cpu::store_tile<0>(sums, kRow);
  cpu::store_tile<1>(sums + 256, kRow);
  cpu::store_tile<2>(sums + 512, kRow);
  cpu::store_tile<3>(sums + 768, kRow);
  cpu::store_tile<4>(sums + 1024, kRow);
  cpu::store_tile<5>(sums + 1280, kRow);
}

// Of a half's sums, row `row`'s.
HWY_INLINE Pairs sum_of(const std::int32_t* sums, std::size_t half, std::size_t row) {
  const LanesOfPairs d;
  sums += half * 768 + row * 16;
  const Pairs high = hn::LoadU(d, sums), middle = hn::LoadU(d, sums + 256);
  return hn::Add(hn::ShiftLeft<8>(hn::Add(hn::ShiftLeft<8>(high), middle)), hn::LoadU(d, sums + 512));
}

// n rows, in planes of 16 of them each, times planes of 32 columns: use(row, sums, row % 16) for each. While the vector
// unit adds up what 16 rows gave, the matrix unit multiplies the next 16.
//   sums  two times those of multiply_planes
template <class Use>
HWY_INLINE void multiply_all_planes(std::size_t n, const std::byte* rows, std::size_t row_steps, const std::byte* first,
                                    const std::byte* second, std::size_t n_steps, std::int32_t* sums, const Use& use) {
  constexpr std::size_t kSums = 1536;
  const auto use_all = [&](std::size_t from) LACAKE_IN_REGISTERS {
    const std::int32_t* of = sums + from / 16 % 2 * kSums;
    for (std::size_t i = 0; i < 16 && from + i < n; ++i) use(from + i, of, i);
  };
  for (std::size_t row = 0; row < n; row += 16, rows += row_steps * 2 * kPlane) {
    multiply_planes(rows, first, second, n_steps, sums + row / 16 % 2 * kSums);
    if (row > 0) use_all(row - 16);
  }
  use_all((n - 1) / 16 * 16);
}

#endif  // LACAKE_ATTENTION_PLANES

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_PLANES_INL_H_
