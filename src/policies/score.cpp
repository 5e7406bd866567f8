#include "policies/score.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace lacake {
namespace {

// Rises as the score falls.
std::uint32_t falling_key(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 becomes 0
  return ~((bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u);
}

// Keys are sorted and counted by digits of so many bits.
constexpr unsigned kDigitBits = 11;
constexpr std::size_t kValues = std::size_t{1} << kDigitBits;

// What ranking works in. Kept by each thread, because decoding may rank every head of every layer at every token.
struct Ranking {
  std::vector<std::uint32_t> keys;
  std::vector<std::uint32_t> order, by_low;  // indices of keys: sorted, and by the lower digit alone;
                                             // in nth_smallest `order` has the keys that are left
  std::vector<std::uint32_t> begin;          // of each value of each digit
};

// Puts the run of `order` around `at` in order whose keys agree from bit `shift` on. Returns its end.
std::size_t sort_run(Ranking& r, unsigned shift, std::size_t at) {
  const auto high = [&](std::size_t i) { return r.keys[r.order[i]] >> shift; };
  std::size_t first = at, last = at + 1;
  while (first > 0 && high(first - 1) == high(at)) --first;
  while (last < r.order.size() && high(last) == high(at)) ++last;
  const auto from = r.order.begin() + (std::ptrdiff_t)first;
  std::stable_sort(from, r.order.begin() + (std::ptrdiff_t)last,
                   [&](std::uint32_t a, std::uint32_t b) { return r.keys[a] < r.keys[b]; });
  return last;
}

// Sorts indices by `keys` into `order`, equal keys by index. A radix sort, so no comparisons that a processor cannot
// predict; of two digits only, because few keys agree in the 22 bits below the highest in which any two differ. Those
// that do are compared.
void sort_by_key(Ranking& r) {
  std::uint32_t base = UINT32_MAX, most = 0;
  for (const std::uint32_t key : r.keys) base = std::min(base, key), most = std::max(most, key);
  for (std::uint32_t& key : r.keys) key -= base;
  const auto bits = (unsigned)std::bit_width(most - base);
  const unsigned shift = bits - std::min(bits, 2 * kDigitBits);
  const auto low = [&](std::uint32_t key) { return key >> shift & (kValues - 1); };
  const auto high = [&](std::uint32_t key) { return kValues + (key >> shift >> kDigitBits); };
  const std::size_t n = r.keys.size();
  r.order.resize(n);
  r.by_low.resize(n);
  r.begin.assign(2 * kValues, 0);
  // Plain pointers: for all the compiler knows, a store of a number could change the vectors' own.
  const std::uint32_t* keys = r.keys.data();
  std::uint32_t *begin = r.begin.data(), *by_low = r.by_low.data(), *order = r.order.data();
  for (std::size_t i = 0; i < n; ++i) ++begin[low(keys[i])], ++begin[high(keys[i])];
  std::exclusive_scan(begin, begin + kValues, begin, 0u);
  std::exclusive_scan(begin + kValues, begin + 2 * kValues, begin + kValues, 0u);
  for (std::size_t i = 0; i < n; ++i) by_low[begin[low(keys[i])]++] = (std::uint32_t)i;
  for (std::size_t i = 0; i < n; ++i) order[begin[high(keys[by_low[i]])]++] = by_low[i];
  if (shift == 0) return;
  for (std::size_t i = 1; i < n; ++i) {
    if (keys[order[i]] < keys[order[i - 1]]) i = sort_run(r, shift, i);
  }
}

struct Bound {
  std::uint32_t key = 0;
  std::size_t n_below = 0, n_equal = 0;  // keys
};

// The n-th smallest key, from 0 on. Digit by digit: those whose higher digits agree with it are ever fewer, and are
// compared when they are few.
Bound nth_smallest(Ranking& r, std::size_t nth) {
  constexpr std::size_t kFew = 512;
  std::vector<std::uint32_t>& left = r.order;
  left = r.keys;
  std::size_t n_below = 0;
  for (unsigned shift = 32 - kDigitBits; left.size() > kFew && shift < 32; shift -= kDigitBits) {
    const auto digit = [&](std::uint32_t key) { return key >> shift & (kValues - 1); };
    r.begin.assign(kValues, 0);
    for (const std::uint32_t key : left) ++r.begin[digit(key)];
    std::size_t wanted = 0;
    while (n_below + r.begin[wanted] <= nth) n_below += r.begin[wanted++];
    std::size_t n_left = 0;
    for (const std::uint32_t key : left) {
      left[n_left] = key;
      n_left += digit(key) == wanted ? 1 : 0;
    }
    left.resize(n_left);
  }
  const auto at = left.begin() + (std::ptrdiff_t)(nth - n_below);
  std::nth_element(left.begin(), at, left.end());
  const std::uint32_t key = *at;
  n_below += (std::size_t)std::count_if(left.begin(), at, [&](std::uint32_t k) { return k < key; });
  return {key, n_below, (std::size_t)std::count(left.begin(), left.end(), key)};
}

// use(i, values[i-2] + .. + values[i+2]) for each i, what lies outside counting as 0. The inner ones, nearly all,
// without a branch.
template <class Use>
void pooled_sums(std::span<const float> values, const Use& use) {
  constexpr std::size_t kHalf = kPool / 2;
  static_assert(kPool == 5);
  const std::size_t n = values.size(), inner_end = n > kHalf ? n - kHalf : 0;
  const auto edge = [&](std::size_t i) {
    float sum = 0;
    for (std::size_t j = i - std::min(i, kHalf); j < std::min(i + kHalf + 1, n); ++j) sum += values[j];
    use(i, sum);
  };
  for (std::size_t i = 0; i < std::min(kHalf, n); ++i) edge(i);
  const float* v = values.data();
  for (std::size_t i = kHalf; i < inner_end; ++i) use(i, v[i - 2] + v[i - 1] + v[i] + v[i + 1] + v[i + 2]);
  for (std::size_t i = std::max(kHalf, inner_end); i < n; ++i) edge(i);
}

void add_pooled(std::span<const float> values, std::span<float> sums) {
  float* to = sums.data();
  pooled_sums(values, [to](std::size_t i, float sum) { to[i] += sum / (float)kPool; });
}

}  // namespace

std::vector<float> evict_score(std::span<const float> mean, std::span<const float> variance, std::size_t n_entries,
                               std::size_t n_scored, float gamma) {
  assert(n_entries > 0 && n_scored <= n_entries && mean.size() % n_entries == 0);
  assert(variance.empty() || variance.size() == mean.size());
  const std::size_t group = mean.size() / n_entries;
  std::vector<float> scores(n_scored, 0.0f);
  std::vector<float> weighed(variance.empty() ? 0 : n_scored);
  for (std::size_t head = 0; head < group; ++head) {
    const auto head_mean = mean.subspan(head * n_entries, n_scored);
    if (variance.empty()) {
      add_pooled(head_mean, scores);
      continue;
    }
    const auto head_variance = variance.subspan(head * n_entries, n_scored);
    for (std::size_t i = 0; i < n_scored; ++i) weighed[i] = head_mean[i] + gamma * head_variance[i];
    add_pooled(weighed, scores);
  }
  for (float& score : scores) score /= (float)group;
  return scores;
}

void read_on(std::span<const std::int64_t> tokens, float share, std::span<float> scores) {
  for (std::size_t i = 1; i < scores.size(); ++i) {
    const std::int64_t n = tokens[i] - tokens[i - 1];
    scores[i] = std::max(scores[i], (n == 1 ? share : std::pow(share, (float)n)) * scores[i - 1]);
  }
}

std::vector<std::uint32_t> rank(std::span<const float> scores, std::size_t count) {
  assert(count <= scores.size());
  std::vector<std::uint32_t> order(count);
  // A layer that shrinks again in a later stage of the cascade is in order already.
  if (std::is_sorted(scores.begin(), scores.end(), std::greater<>())) {
    std::iota(order.begin(), order.end(), 0u);
    return order;
  }
  thread_local Ranking ranking;
  ranking.keys.resize(scores.size());
  std::transform(scores.begin(), scores.end(), ranking.keys.begin(), falling_key);
  sort_by_key(ranking);
  std::copy_n(ranking.order.begin(), count, order.begin());
  return order;
}

void pool(std::span<const float> values, std::span<float> scores) {
  assert(values.size() == scores.size());
  float* to = scores.data();
  pooled_sums(values, [to](std::size_t i, float sum) { to[i] = sum * (1.0f / (float)kPool); });
}

std::vector<std::uint32_t> top(std::span<const float> scores, std::size_t count) {
  assert(count <= scores.size());
  const std::size_t n = scores.size();
  std::vector<std::uint32_t> chosen(count);
  if (count == n) std::iota(chosen.begin(), chosen.end(), 0u);
  if (count == 0 || count == n) return chosen;
  thread_local Ranking ranking;
  ranking.keys.resize(n);
  // Comparisons of what is no number have no order, and a model can yield it.
  std::transform(scores.begin(), scores.end(), ranking.keys.begin(), [](float score) {
    return falling_key(score == score ? score : -std::numeric_limits<float>::infinity());
  });
  const Bound bound = nth_smallest(ranking, count - 1);
  // Written at every step and kept at some, because no processor foresees which.
  chosen.resize(count + 1);
  std::size_t n_chosen = 0, n_skipped = 0;
  const std::uint32_t* keys = ranking.keys.data();
  std::uint32_t* to = chosen.data();
  const std::size_t to_skip = bound.n_equal - (count - bound.n_below);  // of the equal ones, from the front
  for (std::size_t i = 0; i < n && n_chosen < count; ++i) {
    const bool equal = keys[i] == bound.key, skipped = equal && n_skipped < to_skip;
    to[n_chosen] = (std::uint32_t)i;
    n_skipped += skipped ? 1 : 0;
    n_chosen += keys[i] <= bound.key && !skipped ? 1 : 0;
  }
  chosen.resize(count);
  return chosen;
}

std::size_t lowest(std::span<const float> scores) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> least;
  least.fill(std::numeric_limits<float>::max());
  std::size_t i = 0;
  for (; i + kLanes <= scores.size(); i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) least[j] = scores[i + j] < least[j] ? scores[i + j] : least[j];
  }
  for (; i < scores.size(); ++i) least[0] = scores[i] < least[0] ? scores[i] : least[0];
  const auto found = std::find(scores.begin(), scores.end(), *std::min_element(least.begin(), least.end()));
  return found == scores.end() ? 0 : (std::size_t)(found - scores.begin());
}

}  // namespace lacake
