// The register-blocked product under prefill and decode.

#include <cstddef>

#include "attention/vector_inl.h"

#if defined(LACAKE_ATTENTION_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_PRODUCT_INL_H_
#undef LACAKE_ATTENTION_PRODUCT_INL_H_
#else
#define LACAKE_ATTENTION_PRODUCT_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

// Stored rows that turn into f32 in registers. `stride` is in bytes.
struct RowsF32 {
  const std::byte* data;
  std::size_t stride;
  HWY_INLINE Vector load(std::size_t row, std::size_t column) const {
    return hn::LoadU(Lanes32(), reinterpret_cast<const float*>(data + row * stride) + column);
  }
};

struct RowsF16 {
  const std::byte* data;
  std::size_t stride;
  HWY_INLINE Vector load(std::size_t row, std::size_t column) const {
    const auto* from = reinterpret_cast<const hwy::float16_t*>(data + row * stride) + column;
    return hn::PromoteTo(Lanes32(), hn::LoadU(Lanes16(), from));
  }
};

// A matrix read one number at a time: element (row, step) is at data[row * row_stride + step * step_stride].
struct Scalars {
  const float* data;
  std::size_t row_stride;
  std::size_t step_stride;
  HWY_INLINE Vector broadcast(std::size_t row, std::size_t step) const {
    return hn::Set(Lanes32(), data[row * row_stride + step * step_stride]);
  }
};

enum class Start { kZero, kStored };

// C[row][x ..] = (0 or C) + sum over step of A[row][step] * B[step][x ..], for kRows rows and two vectors of columns.
// Every element is summed in the order of the steps, one fused multiply-add each, whatever stands beside it: blocking
// never shows in a result. 4 x 2 accumulators hide the latency of the multiply-add and fit 16 registers.
template <int kRows, Start kStart, class B>
HWY_INLINE void product_block(const Scalars& a, const B& b, std::size_t x, std::size_t n_steps, float* c,
                              std::size_t c_stride) {
  static_assert(kRows >= 1 && kRows <= 4);
  const Lanes32 d;
  const std::size_t y = x + hn::Lanes(d);
  float* c0 = c;
  float* c1 = c + (kRows > 1 ? 1 : 0) * c_stride;
  float* c2 = c + (kRows > 2 ? 2 : 0) * c_stride;
  float* c3 = c + (kRows > 3 ? 3 : 0) * c_stride;
  Vector x0 = hn::Zero(d), x1 = x0, x2 = x0, x3 = x0;
  Vector y0 = x0, y1 = x0, y2 = x0, y3 = x0;
  if constexpr (kStart == Start::kStored) {
    x0 = hn::LoadU(d, c0 + x), y0 = hn::LoadU(d, c0 + y);
    if constexpr (kRows > 1) x1 = hn::LoadU(d, c1 + x), y1 = hn::LoadU(d, c1 + y);
    if constexpr (kRows > 2) x2 = hn::LoadU(d, c2 + x), y2 = hn::LoadU(d, c2 + y);
    if constexpr (kRows > 3) x3 = hn::LoadU(d, c3 + x), y3 = hn::LoadU(d, c3 + y);
  }
  for (std::size_t step = 0; step < n_steps; ++step) {
    const Vector bx = b.load(step, x);
    const Vector by = b.load(step, y);
    const Vector a0 = a.broadcast(0, step);
    x0 = hn::MulAdd(a0, bx, x0), y0 = hn::MulAdd(a0, by, y0);
    if constexpr (kRows > 1) {
      const Vector a1 = a.broadcast(1, step);
      x1 = hn::MulAdd(a1, bx, x1), y1 = hn::MulAdd(a1, by, y1);
    }
    if constexpr (kRows > 2) {
      const Vector a2 = a.broadcast(2, step);
      x2 = hn::MulAdd(a2, bx, x2), y2 = hn::MulAdd(a2, by, y2);
    }
    if constexpr (kRows > 3) {
      const Vector a3 = a.broadcast(3, step);
      x3 = hn::MulAdd(a3, bx, x3), y3 = hn::MulAdd(a3, by, y3);
    }
  }
  hn::StoreU(x0, d, c0 + x), hn::StoreU(y0, d, c0 + y);
  if constexpr (kRows > 1) hn::StoreU(x1, d, c1 + x), hn::StoreU(y1, d, c1 + y);
  if constexpr (kRows > 2) hn::StoreU(x2, d, c2 + x), hn::StoreU(y2, d, c2 + y);
  if constexpr (kRows > 3) hn::StoreU(x3, d, c3 + x), hn::StoreU(y3, d, c3 + y);
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_PRODUCT_INL_H_
