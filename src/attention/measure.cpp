#include "attention/measure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "attention/row.h"

namespace lacake::attention {

double window_statistics(const float* probabilities, std::size_t n_entries, std::size_t n_rows, float* mean,
                         float* variance) {
  const std::size_t n_entropy = n_entries - std::min(n_entries, n_rows);
  // Columns side by side, so that rows are read in order; few enough for their sums to stay in L1.
  constexpr std::size_t kColumns = 256;
  std::array<double, kColumns> means, squares;
  double entropy = 0;

  for (std::size_t begin = 0; begin < n_entries; begin += kColumns) {
    const std::size_t n = std::min(kColumns, n_entries - begin);
    means.fill(0);
    squares.fill(0);
    for (std::size_t r = 0; r < n_rows; ++r) {
      const float* a = probabilities + r * n_entries + begin;
      for (std::size_t i = 0; i < n; ++i) means[i] += a[i];
      for (std::size_t i = 0; i < n && begin + i < n_entropy; ++i) {
        if (a[i] > 0) entropy -= a[i] * std::log((double)a[i] + 1e-10);
      }
    }
    for (std::size_t i = 0; i < n; ++i) means[i] /= (double)n_rows;
    if (mean) std::copy_n(means.begin(), n, mean + begin);
    if (!variance) continue;

    // A second pass: the difference of two large sums would lose what a nearly constant column has.
    for (std::size_t r = 0; r < n_rows; ++r) {
      const float* a = probabilities + r * n_entries + begin;
      for (std::size_t i = 0; i < n; ++i) squares[i] += (a[i] - means[i]) * (a[i] - means[i]);
    }
    for (std::size_t i = 0; i < n; ++i) {
      variance[begin + i] = n_rows > 1 ? (float)(squares[i] / (double)(n_rows - 1)) : 0.0f;
    }
  }
  return entropy;
}

void key_similarity(const Shape& shape, const Rows& past, const Rows& fresh, float* out) {
  std::vector<float> key(shape.d_k);
  std::vector<double> mean(shape.d_k);
  const auto for_each_key = [&](auto&& use) {
    for (const Rows* rows : {&past, &fresh}) {
      for (std::size_t i = 0; i < rows->n; ++i) {
        load_row(static_cast<const std::byte*>(rows->k) + i * rows->k_stride, shape.d_k, shape.type_k, key.data());
        use();
      }
    }
  };

  // The sum points where the mean does, and a cosine asks for no more.
  for_each_key([&] {
    for (int d = 0; d < shape.d_k; ++d) mean[d] += key[d];
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

}  // namespace lacake::attention
