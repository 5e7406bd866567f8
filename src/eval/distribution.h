#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lacake::eval {

// The distribution softmax(logits) over next tokens. Borrows the logits.
struct Distribution {
  explicit Distribution(std::span<const float> logits);

  double surprise(std::int32_t token) const;  // -ln p(token)

  std::span<const float> logits;
  double log_sum = 0;          // ln of the sum of exponentials
  std::int32_t likeliest = 0;  // the first of equals
};

// KL(truth || other) in nats, never below 0. REQUIRES: the same vocabulary.
double divergence(const Distribution& truth, const Distribution& other);

}  // namespace lacake::eval
