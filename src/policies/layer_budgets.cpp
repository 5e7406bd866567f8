#include "policies/layer_budgets.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

namespace lacake {
namespace {

// Adds `amount` (of either sign) to the budgets for which `takes` holds, evenly, remainder to the first of them.
template <typename Takes>
void spread(std::vector<std::int64_t>& budgets, std::int64_t amount, Takes takes) {
  std::vector<std::size_t> takers;
  for (std::size_t i = 0; i < budgets.size(); ++i) {
    if (takes(i)) takers.push_back(i);
  }
  if (takers.empty()) return;
  const auto n = (std::int64_t)takers.size();
  const std::int64_t each = std::abs(amount) / n;
  const std::int64_t rest = std::abs(amount) % n;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t share = each + (i < rest ? 1 : 0);
    budgets[takers[(std::size_t)i]] += amount > 0 ? share : -share;
  }
}

}  // namespace

float preference(double dispersion, double shift, double tau1, double tau2) {
  return (float)(std::pow(dispersion, 1 / tau1) * std::pow(shift, 1 / tau2));
}

std::optional<float> preference(const Observation& seen, std::size_t n_scored, double tau1, double tau2) {
  if (seen.window <= 1) return {};
  assert(n_scored <= seen.n_entries);
  const double dispersion = std::accumulate(seen.window_entropy.begin(), seen.window_entropy.end(), 0.0);
  double shift = 0;
  for (std::size_t begin = 0; begin < seen.window_variance.size(); begin += seen.n_entries) {
    const auto head = seen.window_variance.subspan(begin, n_scored);
    shift += std::accumulate(head.begin(), head.end(), 0.0);
  }
  return preference(dispersion, shift, tau1, tau2);
}

void Preferences::see(std::size_t layer, std::optional<float> preference) {
  if (layer == 0) before_ = sum_ = 0;
  before_ += all_[layer];
  all_[layer] = preference.value_or(all_[layer]);
  sum_ += all_[layer];
  n_seen_ = layer + 1;
  n_known_ = std::max(n_known_, n_seen_);
}

float Preferences::now(std::size_t layer) const {
  if (layer < n_seen_) return all_[layer];
  const double scale = before_ > 0 && sum_ > 0 ? sum_ / before_ : 1.0;
  return (float)(all_[layer] * scale);
}

void Preferences::visit(PolicyFields& state) {
  state.reals("preference", all_, all_.size(), 0);
  state.number("n_preferences_known", n_known_, 0, all_.size());
  state.number("n_preferences_seen", n_seen_, 0, n_known_);
  state.real("preferences_before", before_);
  state.real("preferences_sum", sum_);
}

std::vector<std::int64_t> divide_budget(std::span<const float> preferences, std::size_t total,
                                        std::span<const std::size_t> caps) {
  assert(preferences.size() == caps.size());
  const std::size_t n = preferences.size();
  const double sum = std::accumulate(preferences.begin(), preferences.end(), 0.0);
  const bool usable = sum > 0 && std::isfinite(sum);
  auto cap = [&](std::size_t i) { return (std::int64_t)caps[i]; };

  std::vector<std::int64_t> budgets(n);
  std::int64_t excess = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double share = usable ? preferences[i] / sum : 1.0 / (double)n;
    const auto wanted = (std::int64_t)(share * (double)total);
    budgets[i] = std::min(wanted, cap(i));
    excess += wanted - budgets[i];
  }
  const auto below_cap = [&](std::size_t i) { return budgets[i] < cap(i); };
  if (excess > 0) spread(budgets, excess, below_cap);

  const std::int64_t missing = (std::int64_t)total - std::accumulate(budgets.begin(), budgets.end(), std::int64_t{0});
  if (missing > 0) spread(budgets, missing, below_cap);
  if (missing < 0) spread(budgets, missing, [&](std::size_t i) { return budgets[i] > 1; });
  return budgets;
}

std::vector<std::size_t> clip(std::span<const std::int64_t> budgets, std::span<const std::size_t> caps) {
  std::vector<std::size_t> clipped(budgets.size());
  for (std::size_t i = 0; i < budgets.size(); ++i) {
    clipped[i] = std::min((std::size_t)(std::max<std::int64_t>(budgets[i], 0)), caps[i]);
  }
  return clipped;
}

std::vector<std::size_t> divide_whole(std::span<const float> preferences, std::size_t total,
                                      std::span<const std::size_t> caps) {
  std::vector<std::size_t> budgets = clip(divide_budget(preferences, total, caps), caps);
  spread_lost(budgets, total, caps);
  return budgets;
}

void spread_lost(std::span<std::size_t> budgets, std::size_t total, std::span<const std::size_t> caps) {
  std::size_t lost = total - std::min(total, std::accumulate(budgets.begin(), budgets.end(), std::size_t{0}));
  while (lost > 0) {
    auto open = (std::size_t)0;
    for (std::size_t i = 0; i < budgets.size(); ++i) open += budgets[i] < caps[i] ? 1 : 0;
    if (open == 0) return;
    const std::size_t each = std::max<std::size_t>(lost / open, 1);
    for (std::size_t i = 0; i < budgets.size() && lost > 0; ++i) {
      const std::size_t taken = std::min({each, lost, caps[i] - budgets[i]});
      budgets[i] += taken;
      lost -= taken;
    }
  }
}

void spread_lost(std::span<std::size_t> budgets, std::size_t total) {
  spread_lost(budgets, total, std::vector<std::size_t>(budgets.size(), total));
}

}  // namespace lacake
