// The register-blocked product under prefill.

#include <cstddef>

#include "attention/rows_inl.h"
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

// A matrix read one number at a time: element (row, step) is at data[row * row_stride + step * step_stride].
struct Scalars {
  const float* data;
  std::size_t row_stride;
  std::size_t step_stride;
  HWY_INLINE Vector broadcast(std::size_t row, std::size_t step) const {
    return hn::Set(Lanes32(), data[row * row_stride + step * step_stride]);
  }
  HWY_INLINE Scalars from(std::size_t row) const { return {data + row * row_stride, row_stride, step_stride}; }
};

enum class Start { kZero, kStored };

// C[row][x ..] = (0 or C) + sum over step of A[row][step] * B[step][x ..], for kRows rows and two vectors of columns.
// Every element is summed in the order of the steps, one fused multiply-add each, whatever stands beside it: blocking
// never shows in a result. 4 x 2 accumulators hide the latency of the multiply-add and fit 16 registers; 8 x 2, where
// there are 32, lose less at both ends of the loop.
template <int kRows, Start kStart, class B>
HWY_INLINE void product_block(const Scalars& a, const B& b, std::size_t x, std::size_t n_steps, float* c,
                              std::size_t c_stride) {
  static_assert(kRows >= 1 && kRows <= 8);
  const Lanes32 d;
  const std::size_t y = x + hn::Lanes(d);
  Vector x0 = hn::Zero(d), x1 = x0, x2 = x0, x3 = x0, x4 = x0, x5 = x0, x6 = x0, x7 = x0;
  Vector y0 = x0, y1 = x0, y2 = x0, y3 = x0, y4 = x0, y5 = x0, y6 = x0, y7 = x0;
  const auto stored = [&](int row, Vector& vx, Vector& vy) LACAKE_IN_REGISTERS {
    vx = hn::LoadU(d, c + (std::size_t)row * c_stride + x);
    vy = hn::LoadU(d, c + (std::size_t)row * c_stride + y);
  };
  if constexpr (kStart == Start::kStored) {
    stored(0, x0, y0);
    if constexpr (kRows > 1) stored(1, x1, y1);
    if constexpr (kRows > 2) stored(2, x2, y2);
    if constexpr (kRows > 3) stored(3, x3, y3);
    if constexpr (kRows > 4) stored(4, x4, y4);
    if constexpr (kRows > 5) stored(5, x5, y5);
    if constexpr (kRows > 6) stored(6, x6, y6);
    if constexpr (kRows > 7) stored(7, x7, y7);
  }
  for (std::size_t step = 0; step < n_steps; ++step) {
    const Vector bx = b.load(step, x);
    const Vector by = b.load(step, y);
    const auto add = [&](std::size_t row, Vector& vx, Vector& vy) LACAKE_IN_REGISTERS {
      const Vector scalar = a.broadcast(row, step);
      vx = hn::MulAdd(scalar, bx, vx);
      vy = hn::MulAdd(scalar, by, vy);
    };
    add(0, x0, y0);
    if constexpr (kRows > 1) add(1, x1, y1);
    if constexpr (kRows > 2) add(2, x2, y2);
    if constexpr (kRows > 3) add(3, x3, y3);
    if constexpr (kRows > 4) add(4, x4, y4);
    if constexpr (kRows > 5) add(5, x5, y5);
    if constexpr (kRows > 6) add(6, x6, y6);
    if constexpr (kRows > 7) add(7, x7, y7);
  }
  const auto store = [&](int row, Vector vx, Vector vy) LACAKE_IN_REGISTERS {
    hn::StoreU(vx, d, c + (std::size_t)row * c_stride + x);
    hn::StoreU(vy, d, c + (std::size_t)row * c_stride + y);
  };
  store(0, x0, y0);
  if constexpr (kRows > 1) store(1, x1, y1);
  if constexpr (kRows > 2) store(2, x2, y2);
  if constexpr (kRows > 3) store(3, x3, y3);
  if constexpr (kRows > 4) store(4, x4, y4);
  if constexpr (kRows > 5) store(5, x5, y5);
  if constexpr (kRows > 6) store(6, x6, y6);
  if constexpr (kRows > 7) store(7, x7, y7);
}

// The same for n_rows rows, a multiple of 4.
template <Start kStart, class B>
HWY_INLINE void product_rows(const Scalars& a, const B& b, std::size_t x, std::size_t n_steps, std::size_t n_rows,
                             float* c, std::size_t c_stride) {
  constexpr std::size_t kAtOnce = kManyRegisters ? 8 : 4;
  std::size_t row = 0;
  for (; row + kAtOnce <= n_rows; row += kAtOnce) {
    product_block<kAtOnce, kStart>(a.from(row), b, x, n_steps, c + row * c_stride, c_stride);
  }
  for (; row < n_rows; row += 4) {
    product_block<4, kStart>(a.from(row), b, x, n_steps, c + row * c_stride, c_stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_PRODUCT_INL_H_
