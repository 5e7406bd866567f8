#pragma once

#include <algorithm>
#include <cassert>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cache/cache.h"
#include "engine/layer_map.h"
#include "lacake/policy_author.h"

namespace lacake {

// A policy's decisions about one layer's update, collected and then applied: layers that shrink make room first.
class DeferredEdits final : public CacheEdits {
 public:
  //   n_fresh  rows of the segment, which the observed layer keeps unless told otherwise
  //   layer    the observed one, as the cache counts; policies count their own
  DeferredEdits(const Cache& cache, const LayerMap& layers, int layer, std::size_t n_fresh)
      : cache_(cache), layers_(layers), layer_(layer), n_fresh_(n_fresh) {}

  void keep(int layer, Selection selection) override {
    decided(layers_.model_layers()[(std::size_t)layer], std::move(selection));
  }
  // What stays of the observed layer where it slides.
  void keep_newest(std::size_t n_entries, std::size_t n) {
    if (n_entries > n) decided(layer_, newest(n_entries, n));
  }

  // As the list of what stays: a segment's rows are not in the cache yet.
  void drop(int policy_layer, std::span<const std::uint32_t> entries) override {
    const int layer = layers_.model_layers()[(std::size_t)policy_layer];
    Selection selection;
    for (std::size_t h = 0; h < entries.size(); ++h) {
      const std::size_t n = cache_.length(layer, (int)h) + (layer == layer_ ? n_fresh_ : 0);
      std::vector<std::uint32_t>& kept = selection.heads.emplace_back();
      for (std::uint32_t i = 0; i < n; ++i) {
        if (i != entries[h]) kept.push_back(i);
      }
    }
    keep(policy_layer, std::move(selection));
  }

  // What other layers give up: so many decisions, each of a layer of its own. They may be applied at the same time, and
  // come before apply_own.
  std::size_t n_elsewhere() const { return elsewhere_.size(); }
  void apply_elsewhere(Cache& cache, std::size_t i) const {
    const auto& [layer, selection] = elsewhere_[i];
    cache.compact(layer, selection);
  }

  // `fresh`: the segment's rows of the observed layer, which are not in the cache yet. Throws as Cache::make_room.
  void apply_own(Cache& cache, const SegmentRows& fresh) const {
    const int n_head_kv = cache.arena().shape().n_head_kv;
    std::vector<std::size_t> lengths((std::size_t)n_head_kv);
    for (int h = 0; h < n_head_kv; ++h) {
      lengths[(std::size_t)h] = !own_                     ? cache.length(layer_, h) + fresh.n
                                : own_->heads.size() == 1 ? own_->heads[0].size()
                                                          : own_->heads[(std::size_t)h].size();
    }
    if (!own_ || own_->heads.size() == 1) cache.make_room(layer_, lengths);
    if (own_) {
      cache.compact(layer_, *own_, fresh);
    } else {
      cache.append(layer_, fresh);
    }
  }

 private:
  // A policy decides once about a layer.
  void decided(int layer, Selection selection) {
    assert(layer == layer_ ? !own_ : std::ranges::none_of(elsewhere_, [&](const auto& d) { return d.first == layer; }));
    if (layer == layer_) {
      own_ = std::move(selection);
    } else {
      elsewhere_.emplace_back(layer, std::move(selection));
    }
  }

  const Cache& cache_;
  const LayerMap& layers_;
  int layer_;
  std::size_t n_fresh_;
  std::optional<Selection> own_;
  std::vector<std::pair<int, Selection>> elsewhere_;
};

}  // namespace lacake
