#include "attention/measure.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/row.h"

namespace lacake::attention {

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
      double square = 0;
      for (const float x : key) square += (double)x * x;
      share = square > 0 ? 1 / std::sqrt(square) : 0;
    }
    for (int d = 0; d < shape.d_k; ++d) mean[d] += share * key[d];
  });
  double mean_square = 0;
  for (const double m : mean) mean_square += m * m;

  for_each_key([&] {
    double product = 0, square = 0;
    for (int d = 0; d < shape.d_k; ++d) {
      product += key[d] * mean[d];
      square += (double)key[d] * key[d];
    }
    const double norms = std::sqrt(square * mean_square);
    *out++ = norms > 0 ? (float)(product / norms) : 0.0f;
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
  double mass = 0, pooled = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t inside = std::min(i, kHalf) + 1 + std::min(n - 1 - i, kHalf);
    mass += row[i];
    pooled += (double)inside * row[i];
  }
  if (pooled <= 0) return;
  const auto share = (float)(mass / pooled);
  const auto raise = [&](std::size_t i, float sum) { peak[i] = std::max(peak[i], sum * share); };
  const std::size_t inner_end = n > kHalf ? n - kHalf : 0;
  for (std::size_t i = 0; i < std::min(kHalf, n); ++i) raise(i, neighbours(i));
  const float* a = row.data();
  for (std::size_t i = kHalf; i < inner_end; ++i) raise(i, a[i - 2] + a[i - 1] + a[i] + a[i + 1] + a[i + 2]);
  for (std::size_t i = std::max(kHalf, inner_end); i < n; ++i) raise(i, neighbours(i));
}

}  // namespace lacake::attention
