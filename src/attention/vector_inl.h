// The vectors of all kernels, and exp. Compiled once per dispatch target: include after hwy/foreach_target.h.

#include <cstddef>

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

HWY_INLINE std::size_t lanes() { return hn::Lanes(Lanes32()); }

// e^x for x <= 0, exactly 1 at 0 and 0 below the smallest normal float; NaN stays NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by Taylor to degree 7, whose remainder is below 6e-9.
HWY_INLINE Vector exp_negative(Vector x) {
  const Lanes32 d;
  const hn::RebindToSigned<Lanes32> di;
  const Vector least = hn::Set(d, -87.3365f);  // ln of the smallest normal float is -87.33654...

  const Vector n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  // ln 2 in two parts: the first has few enough bits that n times it is exact.
  const Vector r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x));

  Vector p = hn::Set(d, 1.0f / 5040);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));

  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::IfThenZeroElse(hn::Lt(x, least), hn::Mul(p, hn::BitCast(d, exponent)));
}

// Logits -> probabilities: values[i] = exp(values[i] - largest) / sum. The same whether i falls into a vector or the
// rest.
HWY_INLINE void normalise(float* values, std::size_t n, float largest, float sum) {
  const Lanes32 d;
  const Vector top = hn::Set(d, largest);
  const Vector inverse = hn::Set(d, 1.0f / sum);
  std::size_t i = 0;
  for (; i + lanes() <= n; i += lanes()) {
    hn::StoreU(hn::Mul(exp_negative(hn::Sub(hn::LoadU(d, values + i), top)), inverse), d, values + i);
  }
  for (; i < n; ++i) values[i] = hn::GetLane(hn::Mul(exp_negative(hn::Set(d, values[i] - largest)), inverse));
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_VECTOR_INL_H_
