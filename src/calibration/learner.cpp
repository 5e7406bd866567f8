#include "calibration/learner.h"

#include <algorithm>
#include <cmath>

namespace lacake {
namespace {

// What is less counts as this, so that nothing that rounds to 0 draws the map down.
constexpr float kLeast = 1e-10f;

}  // namespace

float Target::of(const Observation& seen, std::size_t head, std::size_t entry) {
  return seen.accumulated[head * seen.n_entries + entry];
}

Lessons::Lessons(const AttentionShape& shape, std::size_t n_embd)
    : n_embd_(n_embd), n_heads_(static_cast<std::size_t>(shape.n_head_kv)) {
  sums_.assign(static_cast<std::size_t>(shape.n_layer), RidgeSums(n_embd, n_heads_));
  r2_.assign(sums_.size(), R2(n_heads_));
}

void Lessons::see(const Observation& seen) {
  if (seen.inputs.empty()) return;
  const auto layer = static_cast<std::size_t>(seen.layer);
  const std::size_t last = std::min(last_, seen.n_new), n = last - std::min(first_, last);
  targets_.resize(n * n_heads_);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t head = 0; head < n_heads_; ++head) {
      targets_[i * n_heads_ + head] = std::log(std::max(Target::of(seen, head, first_ + i), kLeast));
    }
  }
  const std::span<const float> inputs = seen.inputs.subspan(first_ * n_embd_, n * n_embd_);
  if (maps_.empty()) return sums_[layer].add(inputs, targets_);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t head = 0; head < n_heads_; ++head) {
      double said = maps_[layer].bias[head];
      for (std::size_t c = 0; c < n_embd_; ++c) {
        said += static_cast<double>(maps_[layer].weights[head * n_embd_ + c]) * inputs[i * n_embd_ + c];
      }
      r2_[layer].add(head, said, targets_[i * n_heads_ + head]);
    }
  }
}

bool Lessons::learned(double alpha) {
  std::vector<RidgeSums::Map> maps;
  for (const RidgeSums& sums : sums_) {
    maps.push_back(sums.solve(alpha));
    if (maps.back().weights.empty()) return false;
  }
  maps_ = std::move(maps);
  sums_.clear();
  return true;
}

}  // namespace lacake
