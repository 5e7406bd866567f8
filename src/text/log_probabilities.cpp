#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "lacake/sampler.h"

namespace lacake {
namespace {

constexpr double kImpossible = -std::numeric_limits<double>::infinity();

// What takes part in the sum; NaN and minus infinity don't.
bool counts(float logit) { return logit > -std::numeric_limits<float>::infinity(); }

// The logarithm of the sum of exponentials, taken around the largest so that nothing overflows.
double log_sum_exp(std::span<const float> logits) {
  double largest = kImpossible;
  for (const float logit : logits) {
    if (counts(logit)) largest = std::max(largest, (double)logit);
  }
  if (!std::isfinite(largest)) return largest;
  double sum = 0;
  for (const float logit : logits) {
    if (counts(logit)) sum += std::exp((double)logit - largest);
  }
  return largest + std::log(sum);
}

}  // namespace

LogProbabilities log_probabilities(std::span<const float> logits, Token token, std::size_t n_best) {
  assert(token >= 0 && (std::size_t)token < logits.size());
  const double all = log_sum_exp(logits);
  const auto of = [&](Token t) -> TokenProbability {
    const float logit = logits[(std::size_t)t];
    return {t, counts(logit) && std::isfinite(all) ? (double)logit - all : kImpossible};
  };
  const auto key = [&](Token t) {
    const float logit = logits[(std::size_t)t];
    return counts(logit) ? logit : -std::numeric_limits<float>::infinity();
  };
  const auto likelier = [&](Token a, Token b) { return key(a) != key(b) ? key(a) > key(b) : a < b; };

  // The best so far in a heap with the worst of them on top: one comparison for nearly every token.
  std::vector<Token> best;
  n_best = std::min(n_best, logits.size());
  for (std::size_t i = 0; i < logits.size() && n_best > 0; ++i) {
    const auto t = (Token)i;
    if (best.size() == n_best) {
      if (!likelier(t, best.front())) continue;
      std::pop_heap(best.begin(), best.end(), likelier);
      best.pop_back();
    }
    best.push_back(t);
    std::push_heap(best.begin(), best.end(), likelier);
  }
  std::sort_heap(best.begin(), best.end(), likelier);

  LogProbabilities result = {of(token), {}};
  for (const Token t : best) result.best.push_back(of(t));
  return result;
}

}  // namespace lacake
