#pragma once

// The arithmetic of DefensiveKV.

#include <cstddef>
#include <span>
#include <vector>

namespace lacake::defence {

// What an entry is held to be at risk of: the most that a query of the window gave it, and never less than the mean of
// all, because a query to come may want what none of the window did. In place.
void raise_to_mean(std::span<float> peaks);

// Of a value's norm in each of several heads, head `own`'s part in their sum; even parts where that is 0.
//   norms  of the same token's values
float part(std::span<const float> norms, std::size_t own);

// How many of the most attended entries are forced to stay: those whose attention, the largest first, sums to less than
// `share` of all; not the one that crosses it. None where the whole does not reach it.
std::size_t n_within(std::span<const float> attention, double share);

// The `n` most attended entries, ascending; of equal ones the first.
std::vector<std::size_t> most_attended(std::span<const float> attention, std::size_t n);

// What one KV head holds before the window, and how much it holds with it.
struct List {
  std::span<const float> attention;  // mean over the window's rows and the group's heads
  std::span<const float> peaks;      // the most of any
  std::span<const float> weights;    // of the values
  std::size_t n_entries = 0;
};
struct Rule {
  std::size_t window = 0;
  double forced = 0;  // share of the attention
  std::size_t cache_size = 0;
  bool guards = true;  // off: a limit below 0 leaves out so many of all that could be forced
};
struct Scored {
  std::vector<std::vector<float>> lists;  // [n_entries]: peak, raised to the mean, times weight
  float best = 0;                         // the largest of all: what forced entries and the window get
  std::vector<std::ptrdiff_t> n_forced;   // the most attended of each list; below 0: all but so many
};
// One layer's lists.
Scored score_layer(std::span<const List> lists, const Rule& rule);

// The kept share of `n` entries as the authors' code has it, which is told what is dropped: 1 - (1 - C / n) loses a
// last bit, and with it an entry where the product is rounded down.
double kept_share(std::size_t cache_size, std::size_t n);

}  // namespace lacake::defence
