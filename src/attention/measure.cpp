#include "attention/measure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "attention/row.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/measure.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/vector_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

// Sums are in double, side by side in a fixed number of parts, and of products of two f32, which are exact there: every
// machine yields the same bits.
constexpr std::size_t kParts = 8;
using Parts = std::array<double, kParts>;
using Doubles = hn::CappedTag<double, kParts>;
using Halves = hn::Rebind<float, Doubles>;

HWY_INLINE double total(const Parts& parts) {
  return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

HWY_INLINE hn::Vec<Doubles> load_double(const float* x) { return hn::PromoteTo(Doubles(), hn::LoadU(Halves(), x)); }

// Sum of a[i] b[i].
HWY_INLINE double product(const float* a, const float* b, std::size_t n) {
  const Doubles d;
  const std::size_t whole = n / kParts * kParts;
  Parts parts;
  for (std::size_t part = 0; part < kParts; part += hn::Lanes(d)) {
    auto sum = hn::Zero(d);
    for (std::size_t i = part; i < whole; i += kParts) sum = hn::MulAdd(load_double(a + i), load_double(b + i), sum);
    hn::StoreU(sum, d, parts.data() + part);
  }
  for (std::size_t i = whole; i < n; ++i) parts[i - whole] += (double)a[i] * b[i];
  return total(parts);
}

HWY_INLINE double sum(const float* x, std::size_t n) {
  const Doubles d;
  const std::size_t whole = n / kParts * kParts;
  Parts parts;
  for (std::size_t part = 0; part < kParts; part += hn::Lanes(d)) {
    auto all = hn::Zero(d);
    for (std::size_t i = part; i < whole; i += kParts) all = hn::Add(all, load_double(x + i));
    hn::StoreU(all, d, parts.data() + part);
  }
  for (std::size_t i = whole; i < n; ++i) parts[i - whole] += x[i];
  return total(parts);
}

// Adds share * x to the sums.
HWY_INLINE void add_scaled(const float* x, float share, std::size_t n, double* sums) {
  const Doubles d;
  const auto by = hn::Set(d, (double)share);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    hn::StoreU(hn::MulAdd(load_double(x + i), by, hn::LoadU(d, sums + i)), d, sums + i);
  }
  for (; i < n; ++i) sums[i] += (double)share * x[i];
}

// A row is pooled over an entry and so many neighbours on each side.
constexpr std::size_t kNeighbours = 2;

}  // namespace

void key_similarity(const Shape& shape, const Rows& past, const Rows& fresh, bool normalised, float* out) {
  const auto n = (std::size_t)shape.d_k;
  std::vector<float> key(n);
  std::vector<double> sums(n);
  const auto for_each_key = [&](auto&& use) {
    for (const Rows* rows : {&past, &fresh}) {
      for (std::size_t i = 0; i < rows->n; ++i) {
        read_key(shape, *rows, i, key.data());
        use();
      }
    }
  };

  // The sum points where the mean does, and a cosine asks for no more.
  for_each_key([&]() HWY_ATTR {
    float share = 1;
    if (normalised) {
      const double square = product(key.data(), key.data(), n);
      share = square > 0 ? (float)(1 / std::sqrt(square)) : 0;
    }
    add_scaled(key.data(), share, n, sums.data());
  });
  const std::vector<float> mean(sums.begin(), sums.end());
  const double mean_square = product(mean.data(), mean.data(), n);

  for_each_key([&]() HWY_ATTR {
    const double norms = std::sqrt(product(key.data(), key.data(), n) * mean_square);
    *out++ = norms > 0 ? (float)(product(key.data(), mean.data(), n) / norms) : 0.0f;
  });
}

void raise_to_pooled(std::span<const float> row, std::span<float> peak) {
  const std::size_t n = row.size();
  const auto neighbours = [&](std::size_t i) {
    float sum = 0;
    for (std::size_t j = i - std::min(i, kNeighbours); j < std::min(i + kNeighbours + 1, n); ++j) sum += row[j];
    return sum;
  };
  // What a neighbourhood sums to is counted once for each entry that it has, so what lies near an end counts less.
  const auto inside = [&](std::size_t i) { return std::min(i, kNeighbours) + 1 + std::min(n - 1 - i, kNeighbours); };
  const std::size_t first_inner = std::min(kNeighbours, n);
  const std::size_t inner_end = std::max(n - std::min(n, kNeighbours), first_inner);
  double mass = sum(row.data() + first_inner, inner_end - first_inner), pooled = (2 * kNeighbours + 1) * mass;
  const auto count = [&](std::size_t i) { mass += row[i], pooled += (double)inside(i) * row[i]; };
  for (std::size_t i = 0; i < first_inner; ++i) count(i);
  for (std::size_t i = inner_end; i < n; ++i) count(i);
  if (pooled <= 0) return;
  const auto share = (float)(mass / pooled);
  const auto raise = [&](std::size_t i) { peak[i] = std::max(peak[i], neighbours(i) * share); };
  for (std::size_t i = 0; i < first_inner; ++i) raise(i);
  const Lanes32 d;
  const Vector by = hn::Set(d, share);
  const float* a = row.data();
  float* to = peak.data();
  std::size_t i = first_inner;
  for (; i + lanes() <= inner_end; i += lanes()) {
    const Vector left = hn::Add(hn::LoadU(d, a + i - 2), hn::LoadU(d, a + i - 1));
    const Vector all =
        hn::Add(hn::Add(hn::Add(left, hn::LoadU(d, a + i)), hn::LoadU(d, a + i + 1)), hn::LoadU(d, a + i + 2));
    hn::StoreU(hn::Max(hn::LoadU(d, to + i), hn::Mul(all, by)), d, to + i);
  }
  for (; i < n; ++i) raise(i);
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(key_similarity);
HWY_EXPORT(raise_to_pooled);

void key_similarity(const Shape& shape, const Rows& past, const Rows& fresh, bool normalised, float* out) {
  HWY_DYNAMIC_DISPATCH(key_similarity)(shape, past, fresh, normalised, out);
}

void raise_to_pooled(std::span<const float> row, std::span<float> peak) {
  HWY_DYNAMIC_DISPATCH(raise_to_pooled)(row, peak);
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
