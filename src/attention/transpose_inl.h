// Rows to lanes and back, four rows at a time: queries into blocks, results and recorded logits out of them.

#include <cstddef>

#include "attention/vector_inl.h"

#if defined(LACAKE_ATTENTION_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_TRANSPOSE_INL_H_
#undef LACAKE_ATTENTION_TRANSPOSE_INL_H_
#else
#define LACAKE_ATTENTION_TRANSPOSE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
using FourLanes = hn::CappedTag<float, 4>;
using FourFloats = hn::Vec<FourLanes>;

// a b c d as rows of four -> as columns.
HWY_INLINE void transpose_four(FourFloats& a, FourFloats& b, FourFloats& c, FourFloats& d) {
  const FourLanes f;
  const hn::Repartition<double, FourLanes> pairs;
  const auto ac = hn::BitCast(pairs, hn::InterleaveLower(f, a, b)),
             bd = hn::BitCast(pairs, hn::InterleaveUpper(f, a, b));
  const auto ca = hn::BitCast(pairs, hn::InterleaveLower(f, c, d)),
             db = hn::BitCast(pairs, hn::InterleaveUpper(f, c, d));
  a = hn::BitCast(f, hn::InterleaveLower(pairs, ac, ca));
  b = hn::BitCast(f, hn::InterleaveUpper(pairs, ac, ca));
  c = hn::BitCast(f, hn::InterleaveLower(pairs, bd, db));
  d = hn::BitCast(f, hn::InterleaveUpper(pairs, bd, db));
}
#endif

// Four rows of n numbers -> four neighbouring lanes: to[i * stride + r] = rows[r][i] * scales[r].
HWY_INLINE void rows_to_lanes(const float* const* rows, const float* scales, std::size_t n, float* to,
                              std::size_t stride) {
  std::size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const FourLanes f;
  const auto scale = hn::LoadU(f, scales);
  for (; i + 4 <= n; i += 4) {
    auto a = hn::LoadU(f, rows[0] + i), b = hn::LoadU(f, rows[1] + i);
    auto c = hn::LoadU(f, rows[2] + i), d = hn::LoadU(f, rows[3] + i);
    transpose_four(a, b, c, d);
    hn::StoreU(hn::Mul(a, scale), f, to + i * stride);
    hn::StoreU(hn::Mul(b, scale), f, to + (i + 1) * stride);
    hn::StoreU(hn::Mul(c, scale), f, to + (i + 2) * stride);
    hn::StoreU(hn::Mul(d, scale), f, to + (i + 3) * stride);
  }
#endif
  for (; i < n; ++i) {
    for (std::size_t r = 0; r < 4; ++r) to[i * stride + r] = rows[r][i] * scales[r];
  }
}

// Four neighbouring lanes -> four rows of n numbers: rows[r][i] = from[i * stride + r] * scales[r]. Null rows are left
// out.
HWY_INLINE void lanes_to_rows(const float* from, std::size_t stride, const float* scales, std::size_t n,
                              float* const* rows) {
  std::size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const FourLanes f;
  const auto scale = hn::LoadU(f, scales);
  for (; i + 4 <= n; i += 4) {
    auto a = hn::Mul(hn::LoadU(f, from + i * stride), scale), b = hn::Mul(hn::LoadU(f, from + (i + 1) * stride), scale);
    auto c = hn::Mul(hn::LoadU(f, from + (i + 2) * stride), scale);
    auto d = hn::Mul(hn::LoadU(f, from + (i + 3) * stride), scale);
    transpose_four(a, b, c, d);
    if (rows[0]) hn::StoreU(a, f, rows[0] + i);
    if (rows[1]) hn::StoreU(b, f, rows[1] + i);
    if (rows[2]) hn::StoreU(c, f, rows[2] + i);
    if (rows[3]) hn::StoreU(d, f, rows[3] + i);
  }
#endif
  for (; i < n; ++i) {
    for (std::size_t r = 0; r < 4; ++r) {
      if (rows[r]) rows[r][i] = from[i * stride + r] * scales[r];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_TRANSPOSE_INL_H_
