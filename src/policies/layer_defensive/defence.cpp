#include "policies/layer_defensive/defence.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace lacake::defence {

void raise_to_mean(std::span<float> peaks) {
  if (peaks.empty()) return;
  const double sum = std::accumulate(peaks.begin(), peaks.end(), 0.0);
  const auto mean = (float)(sum / (double)peaks.size());
  for (float& peak : peaks) peak = std::max(peak, mean);
}

float part(std::span<const float> norms, std::size_t own) {
  const double sum = std::accumulate(norms.begin(), norms.end(), 0.0);
  return (float)(sum > 0 ? norms[own] / sum : 1 / (double)norms.size());
}

std::size_t n_within(std::span<const float> attention, double share) {
  std::vector<float> falling(attention.begin(), attention.end());
  std::sort(falling.begin(), falling.end(), std::greater<>());
  const double all = std::accumulate(falling.begin(), falling.end(), 0.0);
  double sum = 0;
  for (std::size_t i = 0; i < falling.size(); ++i) {
    sum += falling[i];
    if (sum >= share * all) return i;
  }
  return 0;
}

std::vector<std::size_t> most_attended(std::span<const float> attention, std::size_t n) {
  std::vector<std::size_t> order(attention.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return attention[a] > attention[b]; });
  order.resize(n);
  std::sort(order.begin(), order.end());
  return order;
}

Scored score_layer(std::span<const List> lists, const Rule& rule) {
  Scored scored;
  double near = 0;  // attention on as many entries before the window as it has: what the authors take for its own
  for (const List& list : lists) {
    const auto from = list.attention.end() - (std::ptrdiff_t)std::min(list.attention.size(), rule.window);
    near += std::accumulate(from, list.attention.end(), 0.0) / (double)lists.size();
    std::vector<float>& scores = scored.lists.emplace_back(list.peaks.begin(), list.peaks.end());
    raise_to_mean(scores);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      scores[i] *= list.weights[i];
      scored.best = std::max(scored.best, scores[i]);
    }
  }
  for (std::size_t k = 0; k < lists.size(); ++k) {
    const List& list = lists[k];
    const double share = kept_share(std::min(rule.cache_size, list.n_entries), list.n_entries);
    auto limit = (std::ptrdiff_t)((double)list.attention.size() * share - (double)rule.window);
    if (rule.guards) limit = std::max<std::ptrdiff_t>(limit, 0);
    const auto within = (std::ptrdiff_t)n_within(list.attention, rule.forced - near);
    const std::ptrdiff_t count = scored.n_forced.emplace_back(std::min(within, limit));
    const auto all = (std::ptrdiff_t)list.attention.size();
    const std::ptrdiff_t n = count < 0 ? std::max<std::ptrdiff_t>(all + count, 0) : count;
    for (const std::size_t i : most_attended(list.attention, (std::size_t)n)) {
      scored.lists[k][i] = scored.best;
    }
    scored.lists[k].resize(list.n_entries, scored.best);
  }
  return scored;
}

double kept_share(std::size_t cache_size, std::size_t n) { return 1 - (1 - (double)cache_size / (double)n); }

}  // namespace lacake::defence
