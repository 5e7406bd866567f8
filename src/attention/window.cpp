#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "attention/measure.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/window.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/vector_inl.h"
#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

// Columns are the lanes. Sums in double: those of a column over its rows, and one sum of entropies.
using Doubles = hn::CappedTag<double, 8>;
using Floats = hn::Rebind<float, Doubles>;

// A whole vector of columns from `a` on. `counts` is 0 where a column has no part in the entropy.
HWY_INLINE hn::Vec<Doubles> one_vector(const float* a, std::size_t stride, std::size_t n_rows, hn::Vec<Doubles> counts,
                                       hn::Vec<Doubles> entropy, float* mean, float* variance) {
  const Doubles d;
  const Floats f;
  auto sum = hn::Zero(d);
  for (std::size_t r = 0; r < n_rows; ++r) {
    const float* at = a + r * stride;
    const auto x = hn::PromoteTo(d, hn::LoadU(f, at));
    hwy::Prefetch(at + 64);
    sum = hn::Add(sum, x);
    entropy = hn::NegMulAdd(hn::Mul(x, counts), hn::Log(d, hn::Add(x, hn::Set(d, 1e-10))), entropy);
  }
  const auto average = hn::Div(sum, hn::Set(d, (double)n_rows));
  hn::StoreU(hn::DemoteTo(f, average), f, mean);
  if (!variance) return entropy;

  // A second pass: the difference of two large sums would lose what a nearly constant column has.
  auto squares = hn::Zero(d);
  for (std::size_t r = 0; r < n_rows; ++r) {
    const auto off = hn::Sub(hn::PromoteTo(d, hn::LoadU(f, a + r * stride)), average);
    squares = hn::MulAdd(off, off, squares);
  }
  const auto divisor = hn::Set(d, n_rows > 1 ? (double)(n_rows - 1) : 1.0);
  hn::StoreU(hn::DemoteTo(f, n_rows > 1 ? hn::Div(squares, divisor) : hn::Zero(d)), f, variance);
  return entropy;
}

}  // namespace

double window_statistics(const float* probabilities, std::size_t n_entries, std::size_t n_rows, float* mean,
                         float* variance) {
  const Doubles d;
  const std::size_t n_entropy = n_entries - std::min(n_entries, n_rows), step = hn::Lanes(d);
  std::array<float, 8> means, variances;
  std::vector<float> rest(n_rows * step);
  auto entropy = hn::Zero(d);
  for (std::size_t begin = 0; begin < n_entries; begin += step) {
    const std::size_t n = std::min(step, n_entries - begin);
    const auto counts = hn::IfThenElseZero(hn::FirstN(d, begin < n_entropy ? n_entropy - begin : 0), hn::Set(d, 1.0));
    const float* a = probabilities + begin;
    std::size_t stride = n_entries;
    if (n < step) {  // columns that fill no vector: with zeros beside them
      for (std::size_t r = 0; r < n_rows; ++r) std::copy_n(a + r * n_entries, n, rest.data() + r * step);
      a = rest.data();
      stride = step;
    }
    entropy = one_vector(a, stride, n_rows, counts, entropy, means.data(), variance ? variances.data() : nullptr);
    if (mean) std::copy_n(means.data(), n, mean + begin);
    if (variance) std::copy_n(variances.data(), n, variance + begin);
  }
  return hn::GetLane(hn::SumOfLanes(d, entropy));
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(window_statistics);

double window_statistics(const float* probabilities, std::size_t n_entries, std::size_t n_rows, float* mean,
                         float* variance) {
  return HWY_DYNAMIC_DISPATCH(window_statistics)(probabilities, n_entries, n_rows, mean, variance);
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
