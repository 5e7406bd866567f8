// The vectors of all kernels, and exp. Compiled once per dispatch target: include after hwy/foreach_target.h.

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

#if defined(LACAKE_ATTENTION_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_VECTOR_INL_H_
#undef LACAKE_ATTENTION_VECTOR_INL_H_
#else
#define LACAKE_ATTENTION_VECTOR_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, as strides and scratch are laid out for (kMaxLanes in layout.h). No arrays or members of vectors
// anywhere: SVE has none.
using Lanes32 = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Lanes32>;
using Lanes16 = hn::Rebind<hwy::float16_t, Lanes32>;

#undef LACAKE_IN_REGISTERS
// For lambdas whose vectors must stay in registers.
#if HWY_COMPILER_GCC  // clang included
#define LACAKE_IN_REGISTERS HWY_ATTR __attribute__((always_inline))
#else
#define LACAKE_IN_REGISTERS HWY_ATTR
#endif

// Sixteen registers hold 4 x 2 accumulators with what feeds them, thirty-two hold twice as many.
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
inline constexpr bool kManyRegisters = true;
#else
inline constexpr bool kManyRegisters = false;
#endif

inline constexpr float kLog2E = 1.44269504f;

HWY_INLINE std::size_t lanes() { return hn::Lanes(Lanes32()); }

// What the two exponentials share: 2^n e^r from t = n + kShifted, the coefficients of the polynomial beside them.
// Adding 1.5 * 2^23 to a small number rounds it to an integer that stands in the lowest bits of the sum; with 127 more
// those bits are the exponent of 2^n.
inline constexpr float kShifted = 12582912.0f + 127.0f;

HWY_INLINE Vector scaled_power(Vector t, Vector p) {
  const Lanes32 d;
  const hn::Repartition<std::uint32_t, Lanes32> bits;
  return hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(bits, t))));
}

// x <= 0 as n + r with |r| <= 1/2: t = n + kShifted. Below -127 it becomes -127, so that 2^n comes out as 0.
HWY_INLINE void split_power(Vector x, Vector& t, Vector& r) {
  const Lanes32 d;
  x = hn::Max(hn::Set(d, -127.0f), x);  // in this order: x86 then keeps a NaN
  t = hn::Add(x, hn::Set(d, kShifted));
  r = hn::Sub(x, hn::Sub(t, hn::Set(d, kShifted)));
}

// The polynomial in r with these coefficients, that of the highest power first.
template <class... Rest>
HWY_INLINE Vector polynomial(Vector r, float first, Rest... rest) {
  Vector p = hn::Set(Lanes32(), first);
  ((p = hn::MulAdd(p, r, hn::Set(Lanes32(), rest))), ...);
  return p;
}

// 2^x for x <= 0: exactly 1 at 0, exactly 0 below -126.5; NaN stays NaN. The polynomial of degree 6 is the best in
// relative error that is exactly 1 at r = 0, 8e-8 off with its roundings.
HWY_INLINE Vector exp2_negative(Vector x) {
  Vector t, r;
  split_power(x, t, r);
  return scaled_power(t, polynomial(r, 1.55946778e-4f, 1.34066434e-3f, 9.61769279e-3f, 5.55031039e-2f, 0.240226522f,
                                    0.693147242f, 1.0f));
}

// The same of degree 4, 3e-6 off: for what is rounded to 16 bits next.
HWY_INLINE Vector exp2_negative_16(Vector x) {
  Vector t, r;
  split_power(x, t, r);
  return scaled_power(t, polynomial(r, 9.58285328e-3f, 5.59064256e-2f, 0.240240986f, 0.693124193f, 1.0f));
}

// e^x for x <= 0, with the same edges (0 below -87.7).
HWY_INLINE Vector exp_negative(Vector x) {
  const Lanes32 d;
  x = hn::Max(hn::Set(d, -88.02969f), x);
  const Vector t = hn::MulAdd(x, hn::Set(d, 1.44269504f), hn::Set(d, kShifted));
  const Vector n = hn::Sub(t, hn::Set(d, kShifted));
  // ln 2 in two parts: the first has few enough bits that n times it is exact.
  const Vector r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x));
  return scaled_power(
      t, polynomial(r, 1.40612409e-3f, 8.37901141e-3f, 4.16647755e-2f, 0.166663662f, 0.50000006f, 1.0f, 1.0f));
}

// cap * tanh(x / cap). Near 0 the error is that of 1 - e: 6e-8 of the cap.
HWY_INLINE Vector soft_cap(Vector x, float cap) {
  const Lanes32 d;
  const Vector y = hn::Mul(x, hn::Set(d, 1.0f / cap));
  const Vector e = exp_negative(hn::Mul(hn::Abs(y), hn::Set(d, -2.0f)));
  const Vector one = hn::Set(d, 1.0f);
  const Vector tanh = hn::Div(hn::Sub(one, e), hn::Add(one, e));
  return hn::CopySign(hn::Mul(tanh, hn::Set(d, cap)), x);
}

// Logits -> probabilities: values[i] = exp(values[i] - largest) / sum, with the exponential given. The same whether i
// falls into a vector or the rest.
template <Vector (*kExp)(Vector)>
HWY_INLINE void normalise(float* values, std::size_t n, float largest, float sum) {
  const Lanes32 d;
  const Vector top = hn::Set(d, largest);
  const Vector inverse = hn::Set(d, 1.0f / sum);
  std::size_t i = 0;
  for (; i + lanes() <= n; i += lanes()) {
    hn::StoreU(hn::Mul(kExp(hn::Sub(hn::LoadU(d, values + i), top)), inverse), d, values + i);
  }
  for (; i < n; ++i) values[i] = hn::GetLane(hn::Mul(kExp(hn::Set(d, values[i] - largest)), inverse));
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_VECTOR_INL_H_
