// Weighted sums of stored values for the heads of a group: the second half of decode.

#include <algorithm>
#include <cstddef>

#include "attention/layout.h"
#include "attention/rows_inl.h"
#include "attention/vector_inl.h"

#if defined(LACAKE_ATTENTION_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_VALUES_INL_H_
#undef LACAKE_ATTENTION_VALUES_INL_H_
#else
#define LACAKE_ATTENTION_VALUES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

// out[head][x ..] += sum over rows of weights[head][row] * rows[row][x ..], for up to four heads and kColumns vectors
// of columns, rows first .. first + n - 1. Every element is summed row by row, one fused multiply-add each, whatever
// stands beside it.
//   weights  [kDecodePiece, heads]        out  [out_stride, heads]
//   ahead    bytes to be brought near meanwhile, as many a row as `ahead_stride`; null: none
template <int kHeads, int kColumns, class Rows>
HWY_INLINE void add_weighted(const Rows& rows, std::size_t first, std::size_t n, std::size_t x, const float* weights,
                             float* out, std::size_t out_stride, const std::byte* ahead, std::size_t ahead_stride) {
  static_assert(kHeads >= 1 && kHeads <= 4 && kColumns >= 1 && kColumns <= 4);
  const Lanes32 d;
  const std::size_t x1 = x + lanes(), x2 = x1 + lanes(), x3 = x2 + lanes();
  float* oa = out;
  float* ob = out + (kHeads > 1 ? 1 : 0) * out_stride;
  float* oc = out + (kHeads > 2 ? 2 : 0) * out_stride;
  float* oe = out + (kHeads > 3 ? 3 : 0) * out_stride;
  const Vector zero = hn::Zero(d);
  Vector a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
  Vector c0 = zero, c1 = zero, c2 = zero, c3 = zero, e0 = zero, e1 = zero, e2 = zero, e3 = zero;
  const auto each_column = [&](const auto& use) LACAKE_IN_REGISTERS {
    use(oa, a0, a1, a2, a3);
    if constexpr (kHeads > 1) use(ob, b0, b1, b2, b3);
    if constexpr (kHeads > 2) use(oc, c0, c1, c2, c3);
    if constexpr (kHeads > 3) use(oe, e0, e1, e2, e3);
  };
  each_column([&](const float* o, Vector& v0, Vector& v1, Vector& v2, Vector& v3) LACAKE_IN_REGISTERS {
    v0 = hn::LoadU(d, o + x);
    if constexpr (kColumns > 1) v1 = hn::LoadU(d, o + x1);
    if constexpr (kColumns > 2) v2 = hn::LoadU(d, o + x2);
    if constexpr (kColumns > 3) v3 = hn::LoadU(d, o + x3);
  });
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t row = first + i;
    if (ahead) {
      bring_far(ahead, ahead_stride);
      ahead += ahead_stride;
    }
    const Vector wa = hn::Set(d, weights[row]);
    Vector wb = wa, wc = wa, we = wa;
    if constexpr (kHeads > 1) wb = hn::Set(d, weights[kDecodePiece + row]);
    if constexpr (kHeads > 2) wc = hn::Set(d, weights[2 * kDecodePiece + row]);
    if constexpr (kHeads > 3) we = hn::Set(d, weights[3 * kDecodePiece + row]);
    // Column by column, so that twelve sums, three weights and one column fit into 16 registers.
    const auto add = [&](Vector r, Vector& a, Vector& b, Vector& c, Vector& e) LACAKE_IN_REGISTERS {
      a = hn::MulAdd(wa, r, a);
      if constexpr (kHeads > 1) b = hn::MulAdd(wb, r, b);
      if constexpr (kHeads > 2) c = hn::MulAdd(wc, r, c);
      if constexpr (kHeads > 3) e = hn::MulAdd(we, r, e);
    };
    add(rows.load(row, x), a0, b0, c0, e0);
    if constexpr (kColumns > 1) add(rows.load(row, x1), a1, b1, c1, e1);
    if constexpr (kColumns > 2) add(rows.load(row, x2), a2, b2, c2, e2);
    if constexpr (kColumns > 3) add(rows.load(row, x3), a3, b3, c3, e3);
  }
  each_column([&](float* o, Vector& v0, Vector& v1, Vector& v2, Vector& v3) LACAKE_IN_REGISTERS {
    hn::StoreU(v0, d, o + x);
    if constexpr (kColumns > 1) hn::StoreU(v1, d, o + x1);
    if constexpr (kColumns > 2) hn::StoreU(v2, d, o + x2);
    if constexpr (kColumns > 3) hn::StoreU(v3, d, o + x3);
  });
}

// The same over all columns of up to four heads.
template <int kHeads, class Rows>
HWY_INLINE void add_weighted_rows(const Rows& rows, std::size_t first, std::size_t n, std::size_t d_v,
                                  const float* weights, float* out, std::size_t out_stride, const std::byte* ahead,
                                  std::size_t ahead_stride) {
  std::size_t x = 0;
  if constexpr (kManyRegisters || kHeads <= 3) {
    for (; x + 4 * lanes() <= d_v; x += 4 * lanes(), ahead = nullptr) {
      add_weighted<kHeads, 4>(rows, first, n, x, weights, out, out_stride, ahead, ahead_stride);
    }
  }
  for (; x + 2 * lanes() <= d_v; x += 2 * lanes(), ahead = nullptr) {
    add_weighted<kHeads, 2>(rows, first, n, x, weights, out, out_stride, ahead, ahead_stride);
  }
  if (x < d_v) add_weighted<kHeads, 1>(rows, first, n, x, weights, out, out_stride, ahead, ahead_stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_VALUES_INL_H_
