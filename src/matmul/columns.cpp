#include "matmul/columns.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "matmul/columns.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::matmul {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 16>;

}  // namespace

// Rounds to nearest even, as the vector units do; the reference asks the same of nearbyint.
void quantise_blocks(const float* x, std::size_t n_blocks, std::int8_t* values, float* scales, float* sums) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<std::int8_t, Floats> d8;
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t b = 0; b < n_blocks; ++b, x += kBlock, values += kBlock) {
    auto most = hn::Zero(d);
    for (std::size_t i = 0; i < kBlock; i += lanes) most = hn::Max(most, hn::Abs(hn::LoadU(d, x + i)));
    const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
    const float scale = largest / 127;
    const auto inverse = hn::Set(d, largest > 0 ? 127 / largest : 0.0f);
    auto sum = hn::Zero(di);
    for (std::size_t i = 0; i < kBlock; i += lanes) {
      const auto q = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), inverse));
      sum = hn::Add(sum, q);
      hn::StoreU(hn::DemoteTo(d8, q), d8, values + i);
    }
    scales[b] = scale;
    sums[b] = scale * (float)hn::GetLane(hn::SumOfLanes(di, sum));
  }
}

// Two sums side by side, so that one addition need not wait for the one before.
double sum_of_squares(const float* x, std::size_t n) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> d32;
  const std::size_t lanes = hn::Lanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  const auto squares = [&](std::size_t i) HWY_ATTR {
    const auto wide = hn::PromoteTo(d, hn::LoadU(d32, x + i));
    return hn::Mul(wide, wide);
  };
  std::size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    even = hn::Add(even, squares(i));
    odd = hn::Add(odd, squares(i + lanes));
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; i < n; ++i) sum += (double)x[i] * x[i];
  return sum;
}

void scale_by(const float* x, const float* weight, float scale, std::size_t n, float* to) {
  const Floats d;
  const auto factor = hn::Set(d, scale);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), factor), hn::LoadU(d, weight + i)), d, to + i);
  }
  for (; i < n; ++i) to[i] = x[i] * scale * weight[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::matmul
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::matmul {
namespace {

HWY_EXPORT(quantise_blocks);
HWY_EXPORT(sum_of_squares);
HWY_EXPORT(scale_by);

struct Place {
  std::size_t scales, sums, end;
  explicit Place(std::size_t n) {
    const auto aligned = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; };
    scales = aligned(n);
    sums = scales + aligned(n / kBlock * sizeof(float));
    end = sums + aligned(n / kBlock * sizeof(float));
  }
};

}  // namespace

std::size_t column_bytes(std::size_t n) { return Place(n).end; }

Column column_at(const std::byte* columns, std::size_t n, std::size_t index) {
  const Place place(n);
  const std::byte* at = columns + index * place.end;
  return {(const std::int8_t*)at, (const float*)(at + place.scales), (const float*)(at + place.sums)};
}

void quantise_column(const float* x, std::size_t n, std::byte* to) {
  assert(n % kBlock == 0);
  const Place place(n);
  HWY_DYNAMIC_DISPATCH(quantise_blocks)
  (x, n / kBlock, (std::int8_t*)to, (float*)(to + place.scales), (float*)(to + place.sums));
}

void norm_column(const float* x, const float* weight, float epsilon, std::size_t n, float* to) {
  const auto mean = (float)(HWY_DYNAMIC_DISPATCH(sum_of_squares)(x, n) / (double)n);
  HWY_DYNAMIC_DISPATCH(scale_by)(x, weight, 1.0f / std::sqrt(mean + epsilon), n, to);
}

void reference::quantise_column(const float* x, std::size_t n, std::byte* to) {
  const Place place(n);
  auto* values = (std::int8_t*)to;
  for (std::size_t b = 0; b < n / kBlock; ++b) {
    float largest = 0;
    for (std::size_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::abs(x[b * kBlock + i]));
    const float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0.0f;
    int sum = 0;
    for (std::size_t i = b * kBlock; i < (b + 1) * kBlock; ++i) {
      values[i] = (std::int8_t)std::nearbyint(x[i] * inverse);
      sum += values[i];
    }
    ((float*)(to + place.scales))[b] = scale;
    ((float*)(to + place.sums))[b] = scale * (float)sum;
  }
}

}  // namespace lacake::matmul
#endif  // HWY_ONCE
