#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "lacake/policy_author.h"
#include "model/architecture.h"

namespace lacake {

// Which layers policies decide about: those with full attention, counted anew from 0. A sliding-window layer keeps its
// newest entries whatever the policy: what its queries can see, or as much as other layers may hold if that is less.
//
//     model's layers   0    1    2    3    4    5        # full attention   ~ sliding window
//                      ~    ~    #    ~    ~    #
//     policy's layers            0              1
class LayerMap {
 public:
  //   calibration  AttentionShape::calibration
  explicit LayerMap(const Hyperparameters& h, std::int64_t calibration)
      : n_head_(h.n_head), n_head_kv_(h.n_head_kv), calibration_(calibration) {
    for (int l = 0; l < h.n_layer; ++l) {
      const int window = h.layers[(std::size_t)l].window;
      policy_layers_.push_back(window > 0 ? kSliding : (int)model_layers_.size());
      if (window == 0) model_layers_.push_back(l);
      window_ = std::max(window_, (std::size_t)window);
    }
  }

  AttentionShape policy_shape() const { return {(int)model_layers_.size(), n_head_, n_head_kv_, calibration_}; }
  const std::vector<int>& model_layers() const { return model_layers_; }  // by the policy's layer
  bool slides(int model_layer) const { return policy_layers_[(std::size_t)model_layer] == kSliding; }
  int policy_layer(int model_layer) const { return policy_layers_[(std::size_t)model_layer]; }  // REQUIRES: !slides()

  std::size_t n_full() const { return model_layers_.size(); }
  std::size_t n_sliding() const { return policy_layers_.size() - model_layers_.size(); }

  // What a sliding-window layer may hold where the others hold `entries` on average.
  std::size_t sliding_entries(std::size_t entries) const { return std::min(window_, entries); }
  // Entries of all layers then.
  std::size_t total(std::size_t entries) const { return n_full() * entries + n_sliding() * sliding_entries(entries); }
  // The most entries that a layer with full attention may hold on average, of this many for all.
  std::size_t full_entries(std::size_t n) const {
    const std::size_t even = n / policy_layers_.size();
    return even <= window_ ? even : (n - n_sliding() * window_) / n_full();
  }

 private:
  static constexpr int kSliding = -1;
  int n_head_, n_head_kv_;
  std::int64_t calibration_;
  std::size_t window_ = 0;
  std::vector<int> model_layers_;
  std::vector<int> policy_layers_;
};

// The last n of n_entries entries stay.
inline Selection newest(std::size_t n_entries, std::size_t n) {
  std::vector<std::uint32_t> keep;
  for (std::size_t i = n_entries - std::min(n, n_entries); i < n_entries; ++i) keep.push_back((std::uint32_t)i);
  return {{keep}};
}

}  // namespace lacake
