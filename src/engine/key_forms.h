#pragma once

#include <vector>

#include "attention/key_form.h"
#include "model/loaded_model.h"
#include "place/place.h"

namespace lacake {

// The forms in which keys of 8 bits or fewer are stored (attention/key_form.h), layer by layer, of what a model's
// vectors say:
//
// - Keys and queries that are normed have the sizes of their norms' weights, channel by channel.
// - Keys with a bias have it in common: as it is where they are stored unrotated, else what is left of it on average
//   over the first kPositions. Channels that turn slowly keep theirs; what turns fast leaves nothing.
class KeyForms {
 public:
  explicit KeyForms(const LoadedModel& model) : model_(model) {}

  // Before this there are none. Called again it does nothing. REQUIRES that no graph runs.
  void make(Place& place);

  // Of all KV heads of a layer: of keys that are stored as they are attended to, and of those stored unrotated.
  attention::KeyForm attended(int layer) const { return of(layer, false); }
  attention::KeyForm plain(int layer) const { return of(layer, true); }

 private:
  static constexpr std::size_t kPositions = 512;
  struct Layer {
    std::vector<float> scale, attended_center, plain_center;  // [d_k, n_head_kv], or empty
  };
  attention::KeyForm of(int layer, bool plain) const;

  const LoadedModel& model_;
  std::vector<Layer> layers_;
};

}  // namespace lacake
