#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lacake {

// -ln p(token) under softmax(logits).
double negative_log_likelihood(std::span<const float> logits, std::int32_t token);

std::size_t likeliest(std::span<const float> logits);

// How far logits are from those that are taken for true, over the tokens added so far.
class Divergence {
 public:
  void add(std::span<const float> truth, std::span<const float> other);

  std::size_t n() const { return n_; }
  double max_abs() const { return max_abs_; }                      // of any logit
  double mean_kl() const { return kl_ / (double)n_; }              // KL(truth || other), in nats
  double top1() const { return (double)same_top1_ / (double)n_; }  // share of tokens with the same likeliest next one
  bool same_top1_everywhere() const { return same_top1_ == n_; }
  std::string text() const;

 private:
  std::size_t n_ = 0;
  std::size_t same_top1_ = 0;
  double max_abs_ = 0;
  double kl_ = 0;
};

}  // namespace lacake
