#pragma once

// Expected Attention (arXiv 2510.00636): what queries to come would give each entry, if they are as those of a segment
// are. From their mean mu and covariance S before RoPE, turned by the mean rotation of the positions to come:
//
//     logit of key k = scale k.mu + scale^2 / 2 k'Sk        for queries of a normal distribution
//
// whose softmax over the entries is the expected attention.

#include <cstddef>
#include <span>

#include "attention/attention.h"

namespace lacake::attention {

// What is known of one query head's queries, as floats in memory of the caller:
//   pivot     [d] near their mean, so that nothing is lost where that is large
//   sums      [d] of what they are off it
//   products  [d, d] of the same, not above the diagonal
// turn_queries() then makes of it what logits are computed with: `sums` and `products` as quadratic_forms() takes them.
inline constexpr std::size_t query_floats(std::size_t d) { return 2 * d + d * d; }

// Adds queries, in order. `first`: there were none before, and the memory holds anything. REQUIRES: n > 0.
//   q  [d, n], `stride` floats from one to the next
void add_queries(const float* q, std::size_t n, std::size_t stride, std::size_t d, bool first, float* queries);

// Of `n` queries that were added.
//   turn  one row of a table (see Rope): the mean rotation; n_rot 0: keys are not rotated
void turn_queries(std::size_t n, std::size_t d, float scale, const Rope& turn, float* queries);

// The mean of `n` rows of a Rope table: [n_rot, n] -> [n_rot].
void mean_rotation(std::span<const float> table, std::size_t n_rot, std::span<float> mean);

// The logits of the keys of a block (forms.h): out [kFormEntries].
void expected_logits(const float* queries, std::size_t d, const float* block, float* out);

// probabilities[i] += share * softmax(logits)[i]; leaves `logits` as something else.
void add_softmax(std::span<float> logits, float share, float* probabilities);

}  // namespace lacake::attention
