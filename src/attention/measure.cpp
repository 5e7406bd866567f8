#include "attention/measure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "attention/row.h"

namespace lacake::attention {

namespace {

// Sums in double, side by side in a fixed number of parts, so that every machine adds in the same order.
constexpr int kParts = 8;
using Parts = std::array<double, kParts>;

double total(const Parts& parts) {
  return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

// use(part, i) for each i below n, a part's in order.
template <class Use>
void in_parts(int n, const Use& use) {
  int i = 0;
  for (; i + kParts <= n; i += kParts) {
    for (int part = 0; part < kParts; ++part) use(part, i + part);
  }
  for (int part = 0; i < n; ++i, ++part) use(part, i);
}

double square_of(const float* x, int n) {
  Parts parts{};
  in_parts(n, [&](int part, int i) { parts[(std::size_t)part] += (double)x[i] * x[i]; });
  return total(parts);
}

}  // namespace

void key_similarity(const Shape& shape, const Rows& past, const Rows& fresh, bool normalised, float* out) {
  std::vector<float> key(shape.d_k);
  std::vector<double> mean(shape.d_k);
  const auto for_each_key = [&](auto&& use) {
    for (const Rows* rows : {&past, &fresh}) {
      for (std::size_t i = 0; i < rows->n; ++i) {
        read_key(shape, *rows, i, key.data());
        use();
      }
    }
  };

  // The sum points where the mean does, and a cosine asks for no more.
  for_each_key([&] {
    double share = 1;
    if (normalised) {
      const double square = square_of(key.data(), shape.d_k);
      share = square > 0 ? 1 / std::sqrt(square) : 0;
    }
    for (int d = 0; d < shape.d_k; ++d) mean[d] += share * key[d];
  });
  double mean_square = 0;
  for (const double m : mean) mean_square += m * m;

  for_each_key([&] {
    const float* k = key.data();
    const double* m = mean.data();
    Parts products{}, squares{};
    in_parts(shape.d_k, [&](int part, int d) {
      products[(std::size_t)part] += k[d] * m[d];
      squares[(std::size_t)part] += (double)k[d] * k[d];
    });
    const double norms = std::sqrt(total(squares) * mean_square);
    *out++ = norms > 0 ? (float)(total(products) / norms) : 0.0f;
  });
}

void raise_to_pooled(std::span<const float> row, std::span<float> peak) {
  constexpr std::size_t kHalf = 2;
  const std::size_t n = row.size();
  const auto neighbours = [&](std::size_t i) {
    float sum = 0;
    for (std::size_t j = i - std::min(i, kHalf); j < std::min(i + kHalf + 1, n); ++j) sum += row[j];
    return sum;
  };
  // What a neighbourhood sums to is counted once for each entry that it has, so what lies near an end counts less.
  const auto inside = [&](std::size_t i) { return std::min(i, kHalf) + 1 + std::min(n - 1 - i, kHalf); };
  const std::size_t inner_end = n > kHalf ? n - kHalf : 0, first_inner = std::min(kHalf, n);
  Parts parts{};
  if (inner_end > first_inner) {
    const float* inner = row.data() + first_inner;
    in_parts((int)(inner_end - first_inner), [&](int part, int i) { parts[(std::size_t)part] += inner[i]; });
  }
  double mass = total(parts), pooled = (2 * kHalf + 1) * mass;
  const auto count = [&](std::size_t i) { mass += row[i], pooled += (double)inside(i) * row[i]; };
  for (std::size_t i = 0; i < first_inner; ++i) count(i);
  for (std::size_t i = std::max(first_inner, inner_end); i < n; ++i) count(i);
  if (pooled <= 0) return;
  const auto share = (float)(mass / pooled);
  const auto raise = [&](std::size_t i, float sum) { peak[i] = std::max(peak[i], sum * share); };
  for (std::size_t i = 0; i < first_inner; ++i) raise(i, neighbours(i));
  // Plain pointers: for all the compiler knows, a store to the peaks could change the spans.
  const float* a = row.data();
  float* to = peak.data();
  for (std::size_t i = kHalf; i < inner_end; ++i) {
    const float sum = (a[i - 2] + a[i - 1] + a[i] + a[i + 1] + a[i + 2]) * share;
    to[i] = to[i] < sum ? sum : to[i];
  }
  for (std::size_t i = std::max(first_inner, inner_end); i < n; ++i) raise(i, neighbours(i));
}

}  // namespace lacake::attention
