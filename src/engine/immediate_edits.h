#pragma once

#include <span>
#include <utility>

#include "cache/cache.h"
#include "engine/layer_map.h"
#include "lacake/policy_author.h"

namespace lacake {

// A policy's decisions, applied as they come: between segments, when every entry is in the cache.
class ImmediateEdits final : public CacheEdits {
 public:
  // Borrows both.
  ImmediateEdits(Cache& cache, const LayerMap& layers) : cache_(cache), layers_(layers) {}

  void keep(int layer, Selection selection) override { cache_.compact(model_layer(layer), selection); }
  void drop(int layer, std::span<const std::uint32_t> entries) override { cache_.drop(model_layer(layer), entries); }

 private:
  int model_layer(int policy_layer) const { return layers_.model_layers()[(std::size_t)policy_layer]; }

  Cache& cache_;
  const LayerMap& layers_;
};

}  // namespace lacake
