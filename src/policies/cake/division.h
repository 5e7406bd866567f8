#pragma once

// How CAKE slices one total over layers (paper, section 4.1 and 4.3).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lacake::cake {

// A layer's preference: dispersion^(1/tau1) * shift^(1/tau2). In f32, as budgets of the official code follow from it.
//   dispersion  entropy of the attention, summed over heads, window rows and evictable columns (H)
//   shift       variance over the window rows, summed over heads and evictable columns (V)
float preference(double dispersion, double shift, double tau1, double tau2);

// Shares `total` in proportion to the preferences, in double and truncated. What is above a layer's cap goes evenly to
// the layers below theirs, remainder to the first of them; then what is missing (or too much) in the same manner. One
// pass, as the official code does it: a result can exceed its cap (the caller clips it, and those entries are lost),
// and the sum is below the total where no layer can take more.
//   preferences, caps, returned: [n]     Equal shares if no preference is above 0.
std::vector<std::int64_t> divide_budget(std::span<const float> preferences, std::size_t total,
                                        std::span<const std::size_t> caps);

// Clips budgets to [0, cap].
std::vector<std::size_t> clip(std::span<const std::int64_t> budgets, std::span<const std::size_t> caps);

// Hands what clipping lost to layers below their caps, evenly, until nothing is left or all are full. Not in the
// official code, where all caps of a prompt are equal.
void spread_lost(std::span<std::size_t> budgets, std::size_t total, std::span<const std::size_t> caps);

}  // namespace lacake::cake
