#pragma once

// What a list of entries remembers of the attention that each received.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "lacake/policy_author.h"

namespace lacake::trellis {

// Exponentially weighted mean and variance of what each entry received, an observation at a time. An entry's first
// observation is its mean; from there on older ones fade, so that with a span of H tokens one of h tokens ago counts
// exp(-h / H).
class Memory {
 public:
  // Makes room for entries that nothing is known of; `first_token` is the conversation's index of the first of them.
  void grow(std::size_t n, std::int64_t first_token);
  // What a prompt's last queries saw of the first entries: an entry known before keeps the larger of that and
  // `fade` times what it had.
  //   indicators  [<= size()]
  void see_prompt(std::span<const float> indicators, float fade);
  // What each entry is worth to questions that are not known yet.   worth [size()]
  void set_worth(std::span<const float> worth);
  // The same of the newest entries alone.   worth [<= size()]
  void set_newest_worth(std::span<const float> worth);
  std::span<const float> worth() const { return worth_; }  // kNoWorth where nothing was said
  static constexpr float kNoWorth = -std::numeric_limits<float>::max() / 4;
  // One query of an answer.
  //   row   [>= size()] its attention
  //   share in (0, 1]   of this observation in an old entry's mean
  void see_row(std::span<const float> row, float share);
  // Only these stay, in this order. REQUIRES: ascending.
  void keep(std::span<const std::uint32_t> entries);
  void drop(std::uint32_t entry);

  // mean + spread * standard deviation.   scores [size()]
  void indicators(float spread, std::span<float> scores) const;

  std::size_t size() const { return mean_.size(); }
  std::span<const std::int64_t> tokens() const { return token_; }
  std::size_t bytes() const;
  void visit(PolicyFields& state, std::size_t n_entries);
  static constexpr std::size_t kEntryBytes = 4 * sizeof(float) + sizeof(std::int64_t);

 private:
  std::vector<float> mean_;
  std::vector<float> variance_;
  std::vector<float> weight_;  // of all observations together; 0: none yet
  std::vector<float> worth_;
  std::vector<std::int64_t> token_;
};

// The ladder: cuts the conversation of `n_tokens` into `n_regions` equal regions, shifted by `shift` of one (0 to 1, a
// step of it for each layer), and calls the best-scored entry of each region a rung.
//   tokens, scores  [n], tokens ascending
//   returns         indices of the rungs, ascending; a region without entries has none
std::vector<std::uint32_t> rungs(std::span<const std::int64_t> tokens, std::span<const float> scores,
                                 std::size_t n_tokens, std::size_t n_regions, double shift);

}  // namespace lacake::trellis
