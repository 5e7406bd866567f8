#include "attention/expected.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/forms.h"

namespace lacake::attention {
namespace {

// Two dimensions that rotate together, and by what.
struct Pair : Rope::Pair {
  float cosine, sine;
};

Pair pair_of(const Rope& turn, std::size_t i) {
  const auto half = (std::size_t)turn.n_rot / 2;
  return {turn.pair(i), turn.table[i], turn.table[half + i]};
}

// Numbers at a and b of `n` vectors, which lie `stride` apart.
void turn_pair(const Pair& p, std::size_t n, std::size_t stride, std::size_t each, float* x) {
  for (std::size_t j = 0; j < n; ++j, x += stride) {
    float &a = x[p.a * each], &b = x[p.b * each];
    const float turned = a * p.cosine - b * p.sine;
    b = a * p.sine + b * p.cosine;
    a = turned;
  }
}

}  // namespace

void add_queries(const float* q, std::size_t n, std::size_t stride, std::size_t d, bool first, float* queries) {
  float *pivot = queries, *sums = queries + d, *products = queries + 2 * d;
  std::vector<double> sum(d);
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t i = 0; i < d; ++i) sum[i] += q[j * stride + i];
  }
  if (first) {
    for (std::size_t i = 0; i < d; ++i) pivot[i] = (float)(sum[i] / (double)n);
    std::fill_n(sums, d + d * d, 0.0f);
  }
  for (std::size_t i = 0; i < d; ++i) sums[i] += (float)(sum[i] - (double)n * pivot[i]);
  add_outer_products(q, n, stride, pivot, d, products);
}

void turn_queries(std::size_t n, std::size_t d, float scale, const Rope& turn, float* queries) {
  float *pivot = queries, *mean = queries + d, *covariance = queries + 2 * d;
  const double share = 1 / (double)n;
  for (std::size_t r = 0; r < d; ++r) {
    for (std::size_t c = 0; c <= r; ++c) {
      const double x = share * covariance[r * d + c] - share * mean[r] * share * mean[c];
      covariance[r * d + c] = covariance[c * d + r] = (float)(0.5 * scale * scale * x);
    }
  }
  for (std::size_t i = 0; i < d; ++i) mean[i] = (float)(scale * (pivot[i] + share * mean[i]));
  for (std::size_t i = 0; i < (std::size_t)turn.n_rot / 2; ++i) {
    const Pair p = pair_of(turn, i);
    turn_pair(p, 1, d, 1, mean);
    turn_pair(p, d, d, 1, covariance);
    turn_pair(p, d, 1, d, covariance);
  }
  take_halves(covariance, d);
}

void mean_rotation(std::span<const float> table, std::size_t n_rot, std::span<float> mean) {
  const std::size_t n = table.size() / n_rot;
  for (std::size_t i = 0; i < n_rot; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < n; ++j) sum += table[j * n_rot + i];
    mean[i] = (float)(sum / (double)n);
  }
}

void expected_logits(const float* queries, std::size_t d, const float* block, float* out) {
  quadratic_forms(queries + 2 * d, queries + d, d, block, out);
}

void add_softmax(std::span<float> logits, float share, float* probabilities) {
  if (logits.empty()) return;
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float& x : logits) sum += x = std::exp(x - largest);
  const auto part = (float)(share / sum);
  for (std::size_t i = 0; i < logits.size(); ++i) probabilities[i] += part * logits[i];
}

}  // namespace lacake::attention
