#include "calibration/learner.h"

#include <algorithm>
#include <cmath>

namespace lacake {
namespace {

// What is less counts as this, so that nothing that rounds to 0 draws the map down.
constexpr float kLeast = 1e-10f;

}  // namespace

std::vector<float> Target::of(const Observation& seen, std::size_t n_embd) {
  std::vector<float> scores(seen.repeat_peak.begin(), seen.repeat_peak.end());
  double length = 0;
  for (std::size_t i = 0; i < seen.n_new; ++i) {
    double squares = 0;
    for (const float x : seen.inputs.subspan(i * n_embd, n_embd)) squares += (double)x * x;
    length += std::sqrt(squares) / (double)seen.n_new;
  }
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] >= 0) scores[i] *= seen.value_norm[i] / (float)length;
  }
  return scores;
}

Lessons::Lessons(const AttentionShape& shape, std::size_t n_embd)
    : n_embd_(n_embd), n_heads_((std::size_t)shape.n_head_kv) {
  sums_.assign((std::size_t)shape.n_layer, RidgeSums(n_embd, n_heads_));
  r2_.assign(sums_.size(), R2(n_heads_));
}

void Lessons::see(const Observation& seen) {
  if (seen.inputs.empty() || seen.repeat_peak.empty()) return;
  const auto layer = (std::size_t)seen.layer;
  const std::vector<float> scores = Target::of(seen, n_embd_);
  inputs_.clear();
  targets_.clear();
  for (std::size_t i = first_; i < std::min(last_, seen.n_new); ++i) {
    if (scores[i] < 0) continue;
    const std::span<const float> input = seen.inputs.subspan(i * n_embd_, n_embd_);
    inputs_.insert(inputs_.end(), input.begin(), input.end());
    for (std::size_t head = 0; head < n_heads_; ++head) {
      targets_.push_back(std::log(std::max(scores[head * seen.n_entries + i], kLeast)));
    }
  }
  if (maps_.empty()) return sums_[layer].add(inputs_, targets_);
  const std::size_t n = targets_.size() / n_heads_;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t head = 0; head < n_heads_; ++head) {
      double said = maps_[layer].bias[head];
      for (std::size_t c = 0; c < n_embd_; ++c) {
        said += (double)maps_[layer].weights[head * n_embd_ + c] * inputs_[i * n_embd_ + c];
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
