#pragma once

// What policies ask to know of attention, from recorded probabilities and stored keys. See Observation in
// lacake/policy_author.h for how the results are used.

#include <cstddef>
#include <span>

#include "attention/attention.h"
#include "attention/layout.h"

namespace lacake::attention {

// Statistics of one query head over a window of rows (CAKE, eq. 5-8; SnapKV's mean).
//   probabilities  [n_entries, n_rows] f32
//   mean           [n_entries] over the rows
//   variance       [n_entries] unbiased (divisor n_rows - 1); 0 where there is one row
//   returns        - sum of a ln(a + 1e-10) over all rows and the first n_entries - n_rows entries
// Any pointer may be null: not wanted. Sums in double, so that the order of entries does not matter to 1e-7.
double window_statistics(const float* probabilities, std::size_t n_entries, std::size_t n_rows, float* mean,
                         float* variance);

// Adds the probabilities of every query of a prefill call (all heads of the group) to `sums` [n_entries, group]
// (n_entries = past.n + fresh.n), for the entries of `keys` alone: a part of past or of fresh, at most
// accumulated_keys() long. Only for policies that accumulate (H2O): a probability is known when the row's last key has
// been seen, so K is multiplied a second time. Queries are added one after the other, so calls must come in order.
//   softmax  what prefill() wrote for the same call
std::size_t accumulated_keys(const Shape&);
std::size_t accumulate_scratch(const Shape&);  // bytes, 64-byte aligned
void accumulate_probabilities(const PrefillCall&, const Tile& keys, const float* softmax, float* sums,
                              std::span<std::byte> scratch);

// Cosine of each key with the mean key of the head (KeyDiff): out [past.n + fresh.n]. Keys are taken as stored.
//   normalised  the mean is that of keys of length 1
void key_similarity(const Shape&, const Rows& past, const Rows& fresh, bool normalised, float* out);

// DefensiveKV: raises each `peak` to what a row of probabilities gives the entry once it was averaged over 5 neighbours
// (zeros lie outside, the divisor is always 5) and brought back to its own sum.
//   row, peak  [n]
void raise_to_pooled(std::span<const float> row, std::span<float> peak);

}  // namespace lacake::attention
