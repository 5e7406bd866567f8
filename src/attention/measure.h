#pragma once

// What policies ask to know of attention, from recorded probabilities and stored keys. See Observation in
// lacake/policy_author.h for how the results are used.

#include <cstddef>
#include <cstdint>
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

// --- what a repeat attends to (KVzip) --------------------------------------------------------------------------------

// Queries that stand behind a text and repeat a part of it. Their softmax here is over a few first entries, the part,
// and of the repeat's own rows those that they see; what else of the text they see counts for their output, not for
// this.
struct Repeat {
  // Of the call's fresh rows: the part is [first, last), the repeat's own begin at `own`.
  std::size_t first = 0, last = 0, own = 0;
  // The first entries: these rows of past, then so many of fresh. REQUIRES: n_fresh_sinks <= first
  std::span<const std::uint32_t> past_sinks = {};
  std::size_t n_fresh_sinks = 0;
};

// For each query row of the call (query * group + head) the logarithm, to the base 2, of the sum of its exponentials: a
// logit to the base 2 less this is that of a probability.   norms [n_q * group]
// REQUIRES: call.window == 0, call.first >= repeat.own. Scratch as of `prefill`.
void repeat_norms(const PrefillCall& call, const Repeat& repeat, float* norms, std::span<std::byte> scratch);

// Raises each of `peaks` [n_entries, group] to the largest, over the queries of the call, of logit (to the base 2) less
// norm: for the entries of `keys` alone, which are as for accumulate_probabilities. In any order.
void raise_peaks(const PrefillCall& call, const Tile& keys, const float* norms, float* peaks,
                 std::span<std::byte> scratch);

namespace reference {
// The largest probability of each entry of the part.   peaks [last - first, group]
void repeat_peaks(const PrefillCall& call, const Repeat& repeat, double* peaks);
}  // namespace reference

// Cosine of each key with the mean key of the head (KeyDiff): out [past.n + fresh.n]. Keys are taken as stored.
//   normalised  the mean is that of keys of length 1
void key_similarity(const Shape&, const Rows& past, const Rows& fresh, bool normalised, float* out);

// DefensiveKV: raises each `peak` to what a row of probabilities gives the entry once it was averaged over 5 neighbours
// (zeros lie outside, the divisor is always 5) and brought back to its own sum.
//   row, peak  [n]
void raise_to_pooled(std::span<const float> row, std::span<float> peak);

}  // namespace lacake::attention
