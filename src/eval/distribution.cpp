#include "eval/distribution.h"

#include <algorithm>
#include <cmath>

namespace lacake::eval {

Distribution::Distribution(std::span<const float> values) : logits(values) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  likeliest = (std::int32_t)(largest - logits.begin());
  // Exponentials in f32 (good to 1e-7), their sum in f64.
  double sum = 0;
  for (const float x : logits) sum += (double)std::exp(x - *largest);
  log_sum = (double)*largest + std::log(sum);
}

double Distribution::surprise(std::int32_t token) const { return log_sum - (double)logits[(std::size_t)token]; }

double divergence(const Distribution& truth, const Distribution& other) {
  const auto shift = (float)truth.log_sum;
  double sum = 0;
  for (std::size_t i = 0; i < truth.logits.size(); ++i) {
    sum += (double)(std::exp(truth.logits[i] - shift) * (truth.logits[i] - other.logits[i]));
  }
  // The normalisers' difference is weighted with the sum of p, which is 1.
  return std::max(0.0, sum - truth.log_sum + other.log_sum);
}

}  // namespace lacake::eval
