#pragma once

// Scores of entries from their attention, and the best of them: shared by the policies that rank (SnapKV's pooling and
// group mean, CAKE's variance beside it: paper, section 4.2).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lacake {

// Average pooling: kernel 5, always divided by 5; zeros lie outside.
inline constexpr std::size_t kPool = 5;

// Scores of one KV head: mean over its query heads of pooled (mean + gamma * variance).
//   mean, variance  [n_entries, group]   statistics over the window rows; an empty variance counts as 0
//   returns         [n_scored]           higher = keep; entries from n_scored on are outside for the pooling
// In f32 and in the order of the official code's sums: ties between neighbours of one dominant entry depend on it.
std::vector<float> evict_score(std::span<const float> mean, std::span<const float> variance, std::size_t n_entries,
                               std::size_t n_scored, float gamma);

// For rows that are group means already, entries outside as above: scores[i] = the mean of values[i-2 .. i+2].
//   values, scores  [n_scored]
void pool(std::span<const float> values, std::span<float> scores);

// What is found is read on: an entry counts at least `share`^n times what the entry n tokens before it counts.
//   tokens, scores  [n_scored]   tokens ascending: where entries were dropped, the next one here is not the next token
// Ours, not a paper's. O(n).
void read_on(std::span<const std::int64_t> tokens, float share, std::span<float> scores);

// Indices of the `count` highest scores, highest first; of equal scores the lower index first.
// REQUIRES: count <= scores.size(). O(n) where the scores fall already, else O(n + count log count).
std::vector<std::uint32_t> rank(std::span<const float> scores, std::size_t count);

// Indices of the `count` highest scores in ascending order; of equal scores the higher index (the newer entry) stays.
// What is no number counts as lowest. REQUIRES: count <= scores.size(). O(n).
std::vector<std::uint32_t> top(std::span<const float> scores, std::size_t count);

// Index of the lowest score, of equal ones the first (the oldest); the first where none is a number below infinity.
// REQUIRES: not empty. What one token costs every head of every layer, so without branches.
std::size_t lowest(std::span<const float> scores);

}  // namespace lacake
