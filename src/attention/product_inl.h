// The register-blocked product under prefill.

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

// A matrix read one element at a time: element (row, step) is at data[row * row_stride + step * step_stride].
template <class T>
struct Scalars {
  const T* data;
  std::size_t row_stride;
  std::size_t step_stride;
  HWY_INLINE Scalars from(std::size_t row) const { return {data + row * row_stride, row_stride, step_stride}; }
  HWY_INLINE hn::Vec<hn::Rebind<T, Lanes32>> broadcast(std::size_t row, std::size_t step) const {
    return hn::Set(hn::Rebind<T, Lanes32>(), data[row * row_stride + step * step_stride]);
  }
};

HWY_INLINE Vector multiply_add(Vector a, Vector b, Vector sum) { return hn::MulAdd(a, b, sum); }

// C[row][x ..] = start + sum over step of A[row][step] * B[step][x ..], for kRows rows and two vectors of columns.
// Every element is summed in the order of the steps, one multiply_add each, whatever stands beside it: blocking never
// shows in a result. 4 x 2 accumulators hide the latency of the multiply-add and fit 16 registers; 8 x 2, where there
// are 32, lose less at both ends of the loop.
//   start(row, vx, vy)   sets what the sums begin with
//   finish(row, vx, vy)  takes the sums
template <int kRows, class A, class B, class Start, class Finish>
HWY_INLINE void product_block(const A& a, const B& b, std::size_t x, std::size_t n_steps, const Start& start,
                              const Finish& finish) {
  static_assert(kRows >= 1 && kRows <= 8);
  using Sum = decltype(b.load(0, x));
  const std::size_t y = x + lanes();
  Sum x0, x1, x2, x3, x4, x5, x6, x7, y0, y1, y2, y3, y4, y5, y6, y7;
  const auto each = [&](const auto& use) LACAKE_IN_REGISTERS {
    use(0, x0, y0);
    if constexpr (kRows > 1) use(1, x1, y1);
    if constexpr (kRows > 2) use(2, x2, y2);
    if constexpr (kRows > 3) use(3, x3, y3);
    if constexpr (kRows > 4) use(4, x4, y4);
    if constexpr (kRows > 5) use(5, x5, y5);
    if constexpr (kRows > 6) use(6, x6, y6);
    if constexpr (kRows > 7) use(7, x7, y7);
  };
  each(start);
  for (std::size_t step = 0; step < n_steps; ++step) {
    const Sum bx = b.load(step, x);
    const Sum by = b.load(step, y);
    each([&](std::size_t row, Sum& vx, Sum& vy) LACAKE_IN_REGISTERS {
      const Sum scalar = a.broadcast(row, step);
      vx = multiply_add(scalar, bx, vx);
      vy = multiply_add(scalar, by, vy);
    });
  }
  each(finish);
}

// Sums that begin with nothing.
struct FromZero {
  template <class Sum>
  HWY_INLINE void operator()(std::size_t, Sum& vx, Sum& vy) const {
    vx = vy = hn::Zero(hn::DFromV<Sum>());
  }
};

// The same for n_rows rows, a multiple of 4. `start` and `finish` get the row's number among them.
template <class A, class B, class Start, class Finish>
HWY_INLINE void product_rows(const A& a, const B& b, std::size_t x, std::size_t n_steps, std::size_t n_rows,
                             const Start& start, const Finish& finish) {
  constexpr std::size_t kAtOnce = kManyRegisters ? 8 : 4;
  std::size_t first = 0;
  const auto shifted = [&first](const auto& use) LACAKE_IN_REGISTERS {
    return [&use, first](std::size_t row, auto& vx, auto& vy) LACAKE_IN_REGISTERS { use(first + row, vx, vy); };
  };
  for (; first + kAtOnce <= n_rows; first += kAtOnce) {
    product_block<kAtOnce>(a.from(first), b, x, n_steps, shifted(start), shifted(finish));
  }
  for (; first < n_rows; first += 4) {
    product_block<4>(a.from(first), b, x, n_steps, shifted(start), shifted(finish));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_PRODUCT_INL_H_
