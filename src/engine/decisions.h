#pragma once

#include <utility>
#include <vector>

#include "cache/cache.h"
#include "lacake/policy.h"

namespace lacake {

// A policy's decisions about one layer's update, collected and then applied: layers that shrink make room first.
class Decisions final : public Compaction {
 public:
  void keep(int layer, Selection selection) override { selections_.emplace_back(layer, std::move(selection)); }

  // `fresh`: the segment's rows of `layer`, which are not in the cache yet. Throws as Cache::make_room.
  void apply(Cache& cache, int layer, const SegmentRows& fresh) {
    const Selection* own = nullptr;
    for (const auto& [l, selection] : selections_) {
      if (l == layer) {
        own = &selection;
      } else {
        cache.compact(l, selection);
      }
    }
    const int n_head_kv = cache.arena().shape().n_head_kv;
    std::vector<std::size_t> lengths((std::size_t)n_head_kv);
    for (int h = 0; h < n_head_kv; ++h) {
      lengths[(std::size_t)h] = !own                     ? cache.length(layer, h) + fresh.n
                                : own->heads.size() == 1 ? own->heads[0].size()
                                                         : own->heads[(std::size_t)h].size();
    }
    cache.make_room(layer, lengths);
    if (own) {
      cache.compact(layer, *own, fresh);
    } else {
      cache.append(layer, fresh);
    }
  }

 private:
  std::vector<std::pair<int, Selection>> selections_;
};

}  // namespace lacake
