#include "tools/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lacake {
namespace {

// ln of the sum of exponentials, in double: mean KLs of 1e-9 are sums of differences of such numbers.
double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp((double)x - largest);
  return largest + std::log(sum);
}

}  // namespace

double negative_log_likelihood(std::span<const float> logits, std::int32_t token) {
  return log_sum_exp(logits) - (double)logits[(std::size_t)token];
}

std::size_t likeliest(std::span<const float> logits) {
  return (std::size_t)(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void Divergence::add(std::span<const float> truth, std::span<const float> other) {
  const double truth_sum = log_sum_exp(truth), other_sum = log_sum_exp(other);
  double kl = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double p = (double)truth[i] - truth_sum, q = (double)other[i] - other_sum;
    kl += std::exp(p) * (p - q);
    // Written so that a NaN is the largest difference.
    const double difference = std::abs((double)truth[i] - (double)other[i]);
    if (!(difference <= max_abs_)) max_abs_ = difference;
  }
  kl_ += kl;
  same_top1_ += likeliest(truth) == likeliest(other);
  ++n_;
}

std::string Divergence::text() const {
  return fmt::format("{} tokens: max abs {:.3g}, mean KL {:.3g}, top-1 equal {:.3f} %", n_, max_abs(), mean_kl(),
                     100 * top1());
}

}  // namespace lacake
