#pragma once

// Keys of 4 bits, rounded with regard to the queries that meet them. What rounding adds to a key, e, changes a logit by
// q.e. Queries of a head point where others do, so of the two numbers next to a key's the nearer one is not always the
// better: e'Me is to be small, M = sum of q q' over queries at hand. Nothing but the choice of numbers differs, so
// whoever reads a row need not know.

#include <cstddef>

#include "ggml.h"

namespace lacake::attention {

// Whether rows of the type are rounded so.
inline bool is_weighed(ggml_type type) { return type == GGML_TYPE_Q4_0; }

// M [d, d] of `n` queries [d] that lie `stride` floats apart. Queries to come are others: `others` times the mean of
// the diagonal is added to it.
void weigh(const float* queries, std::size_t n, std::size_t stride, std::size_t d, float others, float* metric);

// For the queries of a prompt's chunk, which are many; and for a token's own, a few that say little of those to come.
// Both were chosen by perplexity, the second on three texts (docs/results/cache-types.md).
inline constexpr float kOthersOfChunk = 0.1f, kOthersOfToken = 3.0f;

// A row [d] as it is to be multiplied by those queries -> type. Costs a few times d * d multiply-adds.
// REQUIRES: is_weighed(type), d a multiple of 32, at most kMostWeighed
inline constexpr std::size_t kMostWeighed = 512;
void round_weighed(const float* row, std::size_t d, ggml_type type, const float* metric, void* to);

}  // namespace lacake::attention
