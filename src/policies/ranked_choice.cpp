// Of a ranked policy: which entries stay, by their scores.

#include <algorithm>
#include <numeric>

#include "policies/ranked.h"
#include "policies/score.h"

namespace lacake {
namespace {

// The `room` best of lists that stand one behind the other, but of each the `n_safe` best. Rising.
//
// To rank a list by itself costs as much as its part of ranking all, so a long one is ranked only when the common
// choice has left it less than it is sure of: then all choose again. What is chosen when every list has enough is what
// would have been chosen if all had been ranked.
//   begin  of each list in `all`, and the end of the last
std::vector<std::uint32_t> best_of_lists(std::vector<float>& all, std::span<const std::size_t> begin, std::size_t room,
                                         std::size_t n_safe) {
  constexpr std::size_t kShort = 4;  // times n_safe: ranked at once
  const std::size_t n_lists = begin.size() - 1;
  std::vector<bool> has_safe(n_lists);
  const auto give_safe = [&](std::size_t i) {
    const std::span<float> list(all.begin() + (std::ptrdiff_t)begin[i], begin[i + 1] - begin[i]);
    for (const std::uint32_t entry : top(list, std::min(n_safe, list.size()))) {
      list[entry] = std::numeric_limits<float>::max();
    }
    has_safe[i] = true;
  };
  for (std::size_t i = 0; i < n_lists; ++i) {
    if (begin[i + 1] - begin[i] <= kShort * n_safe) give_safe(i);
  }
  for (;;) {
    std::vector<std::uint32_t> best = top(all, room);
    bool enough = true;
    for (std::size_t i = 0; i < n_lists; ++i) {
      const auto from = std::lower_bound(best.begin(), best.end(), begin[i]);
      const auto n = (std::size_t)(std::lower_bound(from, best.end(), begin[i + 1]) - from);
      if (has_safe[i] || n >= n_safe) continue;
      give_safe(i);
      enough = false;
    }
    if (enough) return best;
  }
}

}  // namespace

std::vector<std::uint32_t> RankedPolicy::with_protected(std::size_t length,
                                                        const std::vector<std::uint32_t>& chosen) const {
  std::vector<std::uint32_t> kept(options_.sinks + chosen.size() + options_.window);
  const auto first = kept.begin() + (std::ptrdiff_t)options_.sinks;
  std::iota(kept.begin(), first, 0u);
  const auto last = std::transform(chosen.begin(), chosen.end(), first,
                                   [&](std::uint32_t i) { return i + (std::uint32_t)options_.sinks; });
  std::iota(last, kept.end(), (std::uint32_t)(length - options_.window));
  return kept;
}

std::vector<std::uint32_t> RankedPolicy::choose(std::span<const float> scores, std::size_t size) const {
  const std::size_t length = scores.size();
  if (length <= size) {
    std::vector<std::uint32_t> all(length);
    std::iota(all.begin(), all.end(), 0u);
    return all;
  }
  return with_protected(length, top(scores.subspan(options_.sinks, length - n_protected()), size - n_protected()));
}

// Every list keeps its own best.
RankedPolicy::Kept RankedPolicy::choose_even(const Scores& lists, std::size_t size) const {
  Kept kept;
  for (const std::span<const float> scores : lists) kept.push_back(choose(scores, size));
  return kept;
}

// What a list of an even share of `size` is sure of where lists share.
std::size_t RankedPolicy::n_safe(std::size_t size) const {
  return (std::size_t)(options_.head_floor * (double)(size - n_protected()));
}

// The best of all lists together (AdaKV), `room` of them beside the protected ones, but of each the `n_safe` best.
RankedPolicy::Kept RankedPolicy::choose_together(const Scores& lists, std::size_t room, std::size_t n_safe) const {
  std::vector<float> all;
  std::vector<std::size_t> begin;
  for (const std::span<const float> scores : lists) {
    begin.push_back(all.size());
    const std::size_t length = scores.size();
    const std::size_t n = length - std::min(length, n_protected());
    const auto candidates = scores.subspan(std::min(options_.sinks, length), n);
    all.insert(all.end(), candidates.begin(), candidates.end());
  }
  begin.push_back(all.size());
  const std::vector<std::uint32_t> best = best_of_lists(all, begin, std::min(room, all.size()), n_safe);

  Kept kept;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const auto from = std::lower_bound(best.begin(), best.end(), begin[i]);
    std::vector<std::uint32_t> chosen(from, std::lower_bound(from, best.end(), begin[i + 1]));
    for (std::uint32_t& entry : chosen) entry -= (std::uint32_t)begin[i];
    const std::size_t length = lists[i].size();
    if (length < n_protected()) {
      kept.emplace_back(length);
      std::iota(kept.back().begin(), kept.back().end(), 0u);
    } else {
      kept.push_back(with_protected(length, chosen));
    }
  }
  return kept;
}

}  // namespace lacake
