// Numbers as pairs of 16-bit integers: up to twice the multiply-adds of f32, and more exact than the f16 that rows are
// stored in.
//
// A pair is two neighbours along the sum, in a lane of 32 bits, the first one below. Sums of products are exact in 32
// bits as long as they fit, which the scales see to:
// - queries and keys have the length (2-norm) kNorm each, so by Cauchy and Schwarz every partial sum is below kNorm^2;
// - values are at most kLargest, and a row's weights in a tile sum up to kLargest.
// So a logit is off by about 1e-5 of |q| |k| (where numbers are alike in size, rounding keys to f16 makes 2e-5 of
// that), and what a tile adds to the output by less than 1e-4 of its values' size.

#include <cstddef>
#include <cstdint>

#include "attention/vector_inl.h"

#if defined(LACAKE_ATTENTION_PAIRS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_PAIRS_INL_H_
#undef LACAKE_ATTENTION_PAIRS_INL_H_
#else
#define LACAKE_ATTENTION_PAIRS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

using LanesOfPairs = hn::RebindToSigned<Lanes32>;
using Pairs = hn::Vec<LanesOfPairs>;

// Lanes of pairs, row by row.
struct RowsOfPairs {
  const std::int32_t* data;
  std::size_t stride;
  HWY_INLINE Pairs load(std::size_t row, std::size_t column) const {
    return hn::LoadU(LanesOfPairs(), data + row * stride + column);
  }
};

inline constexpr float kNorm = 32000.0f;
inline constexpr float kLargest = 32767.0f;
inline constexpr float kWeights = 32700.0f;  // the roundings of a tile's 128 weights add at most 1/2 each

// AVX-512 with VNNI has one instruction for it. Highway's target of that name asks for more than VNNI, which not every
// processor (or virtual machine) with VNNI has; so it is used under AVX3 as well, and written as what it is. Callers
// ask has_int16() first.
#undef LACAKE_ATTENTION_VNNI
#if HWY_ARCH_X86 && HWY_COMPILER_GCC && HWY_TARGET <= HWY_AVX3  // clang included
#define LACAKE_ATTENTION_VNNI 1
#else
#define LACAKE_ATTENTION_VNNI 0
#endif

// sum + a.first * b.first + a.second * b.second
HWY_INLINE Pairs multiply_add(Pairs a, Pairs b, Pairs sum) {
#if LACAKE_ATTENTION_VNNI
  asm("vpdpwssd %[b], %[a], %[sum]" : [sum] "+v"(sum.raw) : [a] "v"(a.raw), [b] "v"(b.raw));
  return sum;
#elif HWY_ARCH_X86 && HWY_COMPILER_GCC && HWY_TARGET == HWY_AVX2
  // From intrinsics GCC 12 makes a copy of every sum.
  Pairs products;
  asm("vpmaddwd %[b], %[a], %[products]\n\tvpaddd %[products], %[sum], %[sum]"
      : [sum] "+x"(sum.raw), [products] "=&x"(products.raw)
      : [a] "x"(a.raw), [b] "x"(b.raw));
  return sum;
#else
  const auto first = [](Pairs p) HWY_ATTR { return hn::ShiftRight<16>(hn::ShiftLeft<16>(p)); };
  const auto second = [](Pairs p) HWY_ATTR { return hn::ShiftRight<16>(p); };
  return hn::Add(hn::Add(sum, hn::Mul(first(a), first(b))), hn::Mul(second(a), second(b)));
#endif
}

// x * scale rounded, in the lowest 16 bits: adding 1.5 * 2^23 to a small number rounds it to an integer that stands
// there.
HWY_INLINE Pairs rounded(Vector x, Vector scale) {
  return hn::BitCast(LanesOfPairs(), hn::MulAdd(x, scale, hn::Set(Lanes32(), 12582912.0f)));
}

// Of two numbers so rounded, the pair.
HWY_INLINE Pairs pair_of(Pairs first, Pairs second) {
  return hn::Or(hn::ShiftLeft<16>(second), hn::And(first, hn::Set(LanesOfPairs(), 0xffff)));
}

// What makes a vector of length `norm` one of kNorm: 0 for 0.
HWY_INLINE Vector to_norm(Vector norm) {
  const Lanes32 d;
  return hn::IfThenZeroElse(hn::Eq(norm, hn::Zero(d)), hn::Div(hn::Set(d, kNorm), norm));
}

// Columns of a block, [n, stride] f32 -> [(n + 1) / 2, stride] pairs along the column, in place; only the first vector
// of columns. Returns what a pair's numbers are to be multiplied by.
HWY_INLINE Vector pair_columns(float* columns, std::size_t n, std::size_t stride) {
  const Lanes32 d;
  Vector squares = hn::Zero(d);
  for (std::size_t i = 0; i < n; ++i) {
    const Vector v = hn::LoadU(d, columns + i * stride);
    squares = hn::MulAdd(v, v, squares);
  }
  const Vector norm = hn::Sqrt(squares), scale = to_norm(norm);
  auto* pairs = reinterpret_cast<std::int32_t*>(columns);
  for (std::size_t i = 0; i < n; i += 2) {
    const Pairs first = hn::NearestInt(hn::Mul(hn::LoadU(d, columns + i * stride), scale));
    const Pairs second =
        i + 1 < n ? hn::NearestInt(hn::Mul(hn::LoadU(d, columns + (i + 1) * stride), scale)) : hn::Zero(LanesOfPairs());
    hn::StoreU(pair_of(first, second), LanesOfPairs(), pairs + i / 2 * stride);
  }
  return hn::Mul(norm, hn::Set(d, 1.0f / kNorm));
}

// A row of n numbers, n a multiple of lanes() -> n / 2 pairs of neighbours, in place. Returns what they are to be
// multiplied by.
HWY_INLINE float pair_row(float* row, std::size_t n) {
  const Lanes32 d;
  const hn::Rebind<std::uint16_t, Lanes32> d16;
  const hn::RebindToUnsigned<Lanes32> d32;
  Vector squares = hn::Zero(d);
  for (std::size_t i = 0; i < n; i += lanes()) {
    const Vector v = hn::LoadU(d, row + i);
    squares = hn::MulAdd(v, v, squares);
  }
  const Vector norm = hn::Sqrt(hn::SumOfLanes(d, squares)), scale = to_norm(norm);
  auto* to = reinterpret_cast<std::uint16_t*>(row);
  for (std::size_t i = 0; i < n; i += lanes()) {
    hn::StoreU(hn::TruncateTo(d16, hn::BitCast(d32, rounded(hn::LoadU(d, row + i), scale))), d16, to + i);
  }
  return hn::GetLane(norm) / kNorm;
}

// Two rows of values, n numbers each, n a multiple of lanes() -> one row of pairs, where the first stood. Writes what
// each row's are to be multiplied by.
HWY_INLINE void pair_two_rows(float* first, const float* second, std::size_t n, float* scales) {
  const Lanes32 d;
  Vector most = hn::Zero(d), most_of_second = most;
  for (std::size_t i = 0; i < n; i += lanes()) {
    most = hn::Max(most, hn::Abs(hn::LoadU(d, first + i)));
    most_of_second = hn::Max(most_of_second, hn::Abs(hn::LoadU(d, second + i)));
  }
  const auto to_largest = [&](Vector& largest, float& scale) LACAKE_IN_REGISTERS {
    largest = hn::MaxOfLanes(d, largest);
    scale = hn::GetLane(largest) / kLargest;
    largest = hn::IfThenZeroElse(hn::Eq(largest, hn::Zero(d)), hn::Div(hn::Set(d, kLargest), largest));
  };
  to_largest(most, scales[0]);
  to_largest(most_of_second, scales[1]);
  auto* pairs = reinterpret_cast<std::int32_t*>(first);
  for (std::size_t i = 0; i < n; i += lanes()) {
    hn::StoreU(pair_of(rounded(hn::LoadU(d, first + i), most), rounded(hn::LoadU(d, second + i), most_of_second)),
               LanesOfPairs(), pairs + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_PAIRS_INL_H_
