#include "policies/score.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <functional>
#include <numeric>

namespace lacake {
namespace {

// Rises as the score falls.
std::uint32_t falling_key(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 becomes 0
  return ~((bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u);
}

// Indices in the order of their keys, equal keys by index. A radix sort by bytes: decoding ranks every head of every
// layer at every token, so no comparisons that a processor cannot predict.
void sort_by_key(std::vector<std::uint64_t>& keys) {
  constexpr std::size_t kDigits = 4;
  std::array<std::array<std::uint32_t, 256>, kDigits> begin{};
  for (const std::uint64_t key : keys) {
    for (std::size_t digit = 0; digit < kDigits; ++digit) ++begin[digit][key >> (32 + 8 * digit) & 0xff];
  }
  std::vector<std::uint64_t> sorted(keys.size());
  for (std::size_t digit = 0; digit < kDigits; ++digit) {
    std::array<std::uint32_t, 256>& to = begin[digit];
    if (std::find(to.begin(), to.end(), keys.size()) != to.end()) continue;  // all share this byte
    std::exclusive_scan(to.begin(), to.end(), to.begin(), 0u);
    for (const std::uint64_t key : keys) sorted[to[key >> (32 + 8 * digit) & 0xff]++] = key;
    keys.swap(sorted);
  }
}

// sums[i] += the mean of values[i-2 .. i+2], what lies outside counting as 0. The inner ones, nearly all, without a
// branch.
void add_pooled(std::span<const float> values, std::span<float> sums) {
  constexpr std::size_t kHalf = kPool / 2;
  constexpr float kCount = static_cast<float>(kPool);
  static_assert(kPool == 5);
  const std::size_t n = values.size(), inner_end = n > kHalf ? n - kHalf : 0;
  const auto edge = [&](std::size_t i) {
    float sum = 0;
    for (std::size_t j = i - std::min(i, kHalf); j < std::min(i + kHalf + 1, n); ++j) sum += values[j];
    sums[i] += sum / kCount;
  };
  for (std::size_t i = 0; i < std::min(kHalf, n); ++i) edge(i);
  const float* v = values.data();
  float* to = sums.data();
  for (std::size_t i = kHalf; i < inner_end; ++i) to[i] += (v[i - 2] + v[i - 1] + v[i] + v[i + 1] + v[i + 2]) / kCount;
  for (std::size_t i = std::max(kHalf, inner_end); i < n; ++i) edge(i);
}

}  // namespace

std::vector<float> evict_score(std::span<const float> mean, std::span<const float> variance, std::size_t n_entries,
                               std::size_t n_scored, float gamma) {
  assert(n_entries > 0 && n_scored <= n_entries && mean.size() % n_entries == 0);
  assert(variance.empty() || variance.size() == mean.size());
  const std::size_t group = mean.size() / n_entries;
  std::vector<float> scores(n_scored, 0.0f);
  std::vector<float> weighed(n_scored);
  for (std::size_t head = 0; head < group; ++head) {
    const std::size_t row = head * n_entries;
    for (std::size_t i = 0; i < n_scored; ++i) {
      weighed[i] = variance.empty() ? mean[row + i] : mean[row + i] + gamma * variance[row + i];
    }
    add_pooled(weighed, scores);
  }
  for (float& score : scores) score /= static_cast<float>(group);
  return scores;
}

std::vector<std::uint32_t> rank(std::span<const float> scores, std::size_t count) {
  assert(count <= scores.size());
  std::vector<std::uint32_t> order(count);
  // A layer that shrinks again in a later stage of the cascade is in order already.
  if (std::is_sorted(scores.begin(), scores.end(), std::greater<>())) {
    std::iota(order.begin(), order.end(), 0u);
    return order;
  }
  std::vector<std::uint64_t> keys(scores.size());
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = std::uint64_t{falling_key(scores[i])} << 32 | i;
  sort_by_key(keys);
  const auto cut = keys.begin() + static_cast<std::ptrdiff_t>(count);
  std::transform(keys.begin(), cut, order.begin(), [](std::uint64_t key) { return static_cast<std::uint32_t>(key); });
  return order;
}

void pool(std::span<const float> values, std::span<float> scores) {
  assert(values.size() == scores.size());
  constexpr std::size_t kHalf = kPool / 2;
  constexpr float kShare = 1.0f / static_cast<float>(kPool);
  const std::size_t n = values.size();
  const auto edge = [&](std::size_t i) {
    float sum = 0;
    for (std::size_t j = i - std::min(i, kHalf); j < std::min(i + kHalf + 1, n); ++j) sum += values[j];
    scores[i] = sum * kShare;
  };
  for (std::size_t i = 0; i < std::min(kHalf, n); ++i) edge(i);
  const float* v = values.data();
  for (std::size_t i = kHalf; i + kHalf < n; ++i)
    scores[i] = (v[i - 2] + v[i - 1] + v[i] + v[i + 1] + v[i + 2]) * kShare;
  for (std::size_t i = std::max(kHalf, n - std::min(kHalf, n)); i < n; ++i) edge(i);
}

std::vector<std::uint32_t> top(std::span<const float> scores, std::size_t count) {
  assert(count <= scores.size());
  std::vector<std::uint32_t> chosen;
  chosen.reserve(count);
  if (count == 0) return chosen;
  std::vector<float> sorted(scores.begin(), scores.end());
  const auto nth = sorted.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(sorted.begin(), nth, sorted.end(), std::greater<>());
  const float least = *nth;
  const auto n_equal = static_cast<std::size_t>(std::count(scores.begin(), scores.end(), least));
  const auto n_above = static_cast<std::size_t>(std::count_if(sorted.begin(), nth, [&](float s) { return s > least; }));
  std::size_t skipped = n_equal - (count - n_above);  // of the equal ones, from the front
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] > least || (scores[i] == least && (skipped == 0 || skipped-- == 0))) {
      chosen.push_back(static_cast<std::uint32_t>(i));
    }
  }
  return chosen;
}

std::size_t lowest(std::span<const float> scores) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> least;
  least.fill(scores[0]);
  std::size_t i = 0;
  for (; i + kLanes <= scores.size(); i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) least[j] = scores[i + j] < least[j] ? scores[i + j] : least[j];
  }
  for (; i < scores.size(); ++i) least[0] = std::min(least[0], scores[i]);
  const float value = *std::min_element(least.begin(), least.end());
  return static_cast<std::size_t>(std::find(scores.begin(), scores.end(), value) - scores.begin());
}

}  // namespace lacake
