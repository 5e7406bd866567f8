#include "engine/key_forms.h"

#include <algorithm>
#include <cmath>

#include "attention/row.h"
#include "engine/rope_table.h"

namespace lacake {
namespace {

// Numbers begin .. begin + n - 1 of a vector of weights.
std::vector<float> numbers(const ggml_tensor* t, std::size_t begin, std::size_t n) {
  std::vector<float> all((std::size_t)ggml_nelements(t));
  attention::load_row(t->data, (int)all.size(), t->type, all.data());
  return {all.begin() + (std::ptrdiff_t)begin, all.begin() + (std::ptrdiff_t)(begin + n)};
}

// use(i, j) for the channels that turn with each other.
template <class Use>
void for_pairs(const attention::Rope& rope, const Use& use) {
  for (std::size_t i = 0; i < (std::size_t)rope.n_rot / 2; ++i) use(rope.pair(i).a, rope.pair(i).b, i);
}

// The mean square of each channel, of rows [d] of norms' weights.
std::vector<double> squares(const std::vector<float>& weights, std::size_t d, const attention::Rope& rope) {
  std::vector<double> mean(d);
  for (std::size_t i = 0; i < weights.size(); ++i) mean[i % d] += (double)weights[i] * weights[i];
  for_pairs(rope, [&](std::size_t i, std::size_t j, std::size_t) { mean[i] = mean[j] = (mean[i] + mean[j]) / 2; });
  double all = 0;
  for (const double x : mean) all += x / (double)d;
  // None is taken for nothing: a hundredth of the mean is there always.
  for (double& x : mean) x += 0.01 * all;
  return mean;
}

// What it is for the logits' rounding to be least: products of channels alike in keys and queries.
std::vector<float> scales(const Hyperparameters& h, const LayerWeights& w, const attention::Rope& rope) {
  if (!w.q_norm || !w.k_norm) return {};
  const auto d = (std::size_t)h.d_k, n_head_kv = (std::size_t)h.n_head_kv, group = (std::size_t)h.group();
  const bool each = (std::size_t)ggml_nelements(w.k_norm) > d;  // a head has weights of its own
  std::vector<float> all;
  for (std::size_t head = 0; head < n_head_kv; ++head) {
    const auto q = squares(numbers(w.q_norm, each ? head * group * d : 0, each ? group * d : d), d, rope);
    const auto k = squares(numbers(w.k_norm, each ? head * d : 0, d), d, rope);
    for (std::size_t i = 0; i < d; ++i) all.push_back((float)std::pow(q[i] / k[i], 0.25));
  }
  return all;
}

std::vector<float> biases(const Hyperparameters& h, const LayerWeights& w) {
  const auto n_q = (std::size_t)(h.n_head * h.d_k), n_k = (std::size_t)(h.n_head_kv * h.d_k);
  if (w.k_norm) return {};  // what is added before a norm is nothing in common after it
  if (w.k.bias) return numbers(w.k.bias, 0, n_k);
  return w.qkv.bias ? numbers(w.qkv.bias, n_q, n_k) : std::vector<float>();
}

// Rows [d] as they stand on average over n positions.
std::vector<float> turned(std::vector<float> rows, std::size_t d, const attention::Rope& rope, std::size_t n) {
  for_pairs(rope, [&](std::size_t i, std::size_t j, std::size_t angle) {
    double cosine = 0, sine = 0;
    for (std::size_t p = 0; p < n; ++p) {
      const float* angles = rope.table + p * (std::size_t)rope.n_rot;
      cosine += angles[angle] / (double)n;
      sine += angles[(std::size_t)rope.n_rot / 2 + angle] / (double)n;
    }
    for (std::size_t row = 0; row < rows.size(); row += d) {
      const double a = rows[row + i], b = rows[row + j];
      rows[row + i] = (float)(a * cosine - b * sine);
      rows[row + j] = (float)(a * sine + b * cosine);
    }
  });
  return rows;
}

}  // namespace

void KeyForms::make(Place& place) {
  if (!layers_.empty()) return;
  const Hyperparameters& h = model_.hyperparameters;
  RopeTable angles(model_);
  angles.extend(place, kPositions);
  // Softmax beside a sink, or capped, does see what all logits have in common.
  const bool shifts = h.attention_softcap <= 0;
  for (int l = 0; l < h.n_layer; ++l) {
    const LayerWeights& w = model_.weights.layer(l);
    const attention::Rope rope = angles.rope(l);
    Layer& layer = layers_.emplace_back();
    layer.scale = scales(h, w, rope);
    const std::vector<float> bias = biases(h, w);
    if (shifts && !w.sinks) layer.attended_center = turned(bias, (std::size_t)h.d_k, rope, kPositions);
    // What nobody rotates is attended to as it is stored.
    layer.plain_center = h.layers[(std::size_t)l].rope == kNoRope ? layer.attended_center : bias;
  }
}

attention::KeyForm KeyForms::of(int layer, bool plain) const {
  if (layers_.empty()) return {};
  const Layer& l = layers_[(std::size_t)layer];
  const std::vector<float>& center = plain ? l.plain_center : l.attended_center;
  return {.scale = l.scale.empty() ? nullptr : l.scale.data(), .center = center.empty() ? nullptr : center.data()};
}

}  // namespace lacake
