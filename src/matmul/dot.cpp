#include "matmul/dot.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "matmul/dot.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::matmul {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Four vectors at a time, so that sums need not wait for each other: where they are narrow, the whole row is passed
// once for every four of them.
float dot(const float* a, const float* b, std::size_t n) {
  constexpr std::size_t kSums = 64;
  const hn::CappedTag<float, 16> d;
  const std::size_t lanes = hn::Lanes(d), whole = n / kSums * kSums;
  float sums[kSums];
  for (std::size_t at = 0; at < kSums; at += 4 * lanes) {
    auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    for (std::size_t i = at; i < whole; i += kSums) {
      const float *x = a + i, *y = b + i;
      s0 = hn::MulAdd(hn::LoadU(d, x), hn::LoadU(d, y), s0);
      s1 = hn::MulAdd(hn::LoadU(d, x + lanes), hn::LoadU(d, y + lanes), s1);
      s2 = hn::MulAdd(hn::LoadU(d, x + 2 * lanes), hn::LoadU(d, y + 2 * lanes), s2);
      s3 = hn::MulAdd(hn::LoadU(d, x + 3 * lanes), hn::LoadU(d, y + 3 * lanes), s3);
    }
    hn::StoreU(s0, d, sums + at);
    hn::StoreU(s1, d, sums + at + lanes);
    hn::StoreU(s2, d, sums + at + 2 * lanes);
    hn::StoreU(s3, d, sums + at + 3 * lanes);
  }
  for (std::size_t i = whole; i < n; ++i) sums[i - whole] += a[i] * b[i];
  for (std::size_t half = kSums / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::matmul
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::matmul {

HWY_EXPORT(dot);

float dot(const float* a, const float* b, std::size_t n) { return HWY_DYNAMIC_DISPATCH(dot)(a, b, n); }

}  // namespace lacake::matmul
#endif  // HWY_ONCE
