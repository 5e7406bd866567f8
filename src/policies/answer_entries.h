#pragma once

// Entries of an answer where a policy measures prompts only.

#include <algorithm>
#include <cstddef>
#include <span>

#include "lacake/policy_author.h"

namespace lacake {

// Scores of an answer's entries: as long as an entry is among the newest it stays, then it is the first to go. A
// prompt's scores lie between.
inline constexpr float kNewest = PolicyFields::kMostReal;
inline constexpr float kNotNewest = -PolicyFields::kMostReal;
inline bool is_of_answer(float score) { return score == kNewest || score == kNotNewest; }

// When a token of an answer came, whose score is the last.
//   n_newest  that stay
//   full      something goes by these scores now
inline void score_answer(std::span<float> scores, std::size_t n_newest, bool full) {
  scores.back() = kNewest;
  if (!full) return;
  for (float& score : scores.first(scores.size() - std::min(scores.size(), n_newest))) {
    if (score == kNewest) score = kNotNewest;
  }
}

// `recent=`: the share of what a list holds that an answer's newest entries have.
PolicyParameter recent_parameter();

}  // namespace lacake
