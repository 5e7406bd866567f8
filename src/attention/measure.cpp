#include "attention/measure.h"

#include <cmath>
#include <vector>

#include "attention/row.h"

namespace lacake::attention {

void key_similarity(const Shape& shape, const Rows& past, const Rows& fresh, float* out) {
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
