#pragma once

// One total for all layers, sliced by their preferences: CAKE's (paper, section 4.1 and 4.3), for the policies that do
// so.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lacake/policy_author.h"

namespace lacake {

// A layer's preference: dispersion^(1/tau1) * shift^(1/tau2). In f32, as budgets of the official code follow from it.
//   dispersion  entropy of the attention, summed over heads, window rows and evictable columns (H)
//   shift       variance over the window rows, summed over heads and evictable columns (V)
float preference(double dispersion, double shift, double tau1, double tau2);
// The same of what was observed: the first `n_scored` entries are the evictable ones. Nothing of a window of one row,
// which has no variance: such a segment (a turn of one token) leaves preferences as they are.
std::optional<float> preference(const Observation&, std::size_t n_scored, double tau1, double tau2);

// Every layer's preference, over the segments of a conversation.
class Preferences {
 public:
  explicit Preferences(std::size_t n_layer) : all_(n_layer, 1.0f) {}

  // The next layer's in this segment; layers come in order, the first begins a segment. Without a value it stays.
  void see(std::size_t layer, std::optional<float> preference);
  // Of the last segment that saw the layer; 1 before any did.
  float of(std::size_t layer) const { return all_[layer]; }
  // As they compare in this segment: a layer that it has not seen yet counts with what it had, brought to the scale of
  // the new ones (both are sums that grow with rows and entries).
  float now(std::size_t layer) const;

  // Layers that some segment saw: the first so many.
  std::size_t n_known() const { return n_known_; }

  std::size_t bytes() const { return all_.capacity() * sizeof(float); }
  void visit(PolicyFields& state);

 private:
  std::vector<float> all_;
  std::size_t n_known_ = 0;
  std::size_t n_seen_ = 0;  // layers, in this segment
  // Of those, summed: before the segment and in it.
  double before_ = 0;
  double sum_ = 0;
};

// Shares `total` in proportion to the preferences, in double and truncated. What is above a layer's cap goes evenly to
// the layers below theirs, remainder to the first of them; then what is missing (or too much) in the same manner. One
// pass, as the official code does it: a result can exceed its cap (the caller clips it, and those entries are lost),
// and the sum is below the total where no layer can take more.
//   preferences, caps, returned: [n]     Equal shares if no preference is above 0.
std::vector<std::int64_t> divide_budget(std::span<const float> preferences, std::size_t total,
                                        std::span<const std::size_t> caps);

// Clips budgets to [0, cap].
std::vector<std::size_t> clip(std::span<const std::int64_t> budgets, std::span<const std::size_t> caps);

// Both, and nothing is lost: what the one pass of the official code leaves goes to layers below their caps.
std::vector<std::size_t> divide_whole(std::span<const float> preferences, std::size_t total,
                                      std::span<const std::size_t> caps);

// Hands what clipping lost to layers below their caps, evenly, until nothing is left or all are full. Not in the
// official code, where all caps of a prompt are equal.
void spread_lost(std::span<std::size_t> budgets, std::size_t total, std::span<const std::size_t> caps);
// Without caps: what there are not enough entries for after the last layer, decoding fills.
void spread_lost(std::span<std::size_t> budgets, std::size_t total);

}  // namespace lacake
