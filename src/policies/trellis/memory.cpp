#include "policies/trellis/memory.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "policies/release_excess.h"

namespace lacake::trellis {

void Memory::grow(std::size_t n, std::int64_t first_token) {
  const std::size_t old = size();
  mean_.resize(old + n, 0.0f);
  variance_.resize(old + n, 0.0f);
  weight_.resize(old + n, 0.0f);
  worth_.resize(old + n, kNoWorth);
  for (std::size_t i = 0; i < n; ++i) token_.push_back(first_token + (std::int64_t)i);
}

void Memory::see_prompt(std::span<const float> indicators, float fade) {
  assert(indicators.size() <= size());
  for (std::size_t i = 0; i < indicators.size(); ++i) {
    mean_[i] = std::max(indicators[i], fade * mean_[i]);
    variance_[i] *= fade * fade;
    weight_[i] = 1;
  }
}

void Memory::set_worth(std::span<const float> worth) {
  assert(worth.size() == size());
  worth_.assign(worth.begin(), worth.end());
}

void Memory::set_newest_worth(std::span<const float> worth) {
  assert(worth.size() <= size());
  std::copy(worth.begin(), worth.end(), worth_.end() - (std::ptrdiff_t)worth.size());
}

// West's update of a weighted mean and variance (Communications of the ACM 22, 1979).
void Memory::see_row(std::span<const float> row, float share) {
  assert(row.size() >= size() && share > 0 && share <= 1);
  for (std::size_t i = 0; i < size(); ++i) {
    weight_[i] += share * (1 - weight_[i]);
    const float own = share / weight_[i];
    const float off = row[i] - mean_[i];
    mean_[i] += own * off;
    variance_[i] = (1 - own) * (variance_[i] + own * off * off);
  }
}

void Memory::keep(std::span<const std::uint32_t> entries) {
  for (std::size_t to = 0; to < entries.size(); ++to) {
    const std::size_t from = entries[to];
    mean_[to] = mean_[from];
    variance_[to] = variance_[from];
    weight_[to] = weight_[from];
    worth_[to] = worth_[from];
    token_[to] = token_[from];
  }
  const auto cut = [&](auto& values) {
    values.resize(entries.size());
    release_excess(values);
  };
  cut(mean_), cut(variance_), cut(weight_), cut(worth_), cut(token_);
}

void Memory::drop(std::uint32_t entry) {
  const auto erase = [entry](auto& values) { values.erase(values.begin() + (std::ptrdiff_t)entry); };
  erase(mean_), erase(variance_), erase(weight_), erase(worth_), erase(token_);
}

void Memory::indicators(float spread, std::span<float> scores) const {
  assert(scores.size() == size());
  for (std::size_t i = 0; i < size(); ++i) scores[i] = mean_[i] + spread * std::sqrt(variance_[i]);
}

// Attention is at most 1, its weighted variance and mean (Observation) at most a million of it.
void Memory::visit(PolicyFields& state, std::size_t n_entries) {
  constexpr float kMost = 1e12f;
  state.reals("mean", mean_, n_entries, -kMost, kMost);
  state.reals("variance", variance_, n_entries, 0, kMost);
  state.reals("weight", weight_, n_entries, 0, 1);
  state.reals("worth", worth_, n_entries);
  state.numbers("token", token_, n_entries, 0, INT32_MAX);
}

std::size_t Memory::bytes() const {
  return (mean_.capacity() + variance_.capacity() + weight_.capacity() + worth_.capacity()) * sizeof(float) +
         token_.capacity() * sizeof(std::int64_t);
}

std::vector<std::uint32_t> rungs(std::span<const std::int64_t> tokens, std::span<const float> scores,
                                 std::size_t n_tokens, std::size_t n_regions, double shift) {
  assert(tokens.size() == scores.size());
  std::vector<std::uint32_t> best;
  if (n_regions == 0) return best;
  const double regions_per_token = (double)n_regions / (double)n_tokens;
  std::int64_t region = -1;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto own = (std::int64_t)((double)tokens[i] * regions_per_token + shift);
    if (own != region) {
      best.push_back((std::uint32_t)i);
      region = own;
    } else if (scores[i] > scores[best.back()]) {
      best.back() = (std::uint32_t)i;
    }
  }
  return best;
}

}  // namespace lacake::trellis
