// What a ranked policy does when its cache size is changed between segments.

#include <algorithm>
#include <cmath>
#include <limits>

#include "policies/parameters.h"
#include "policies/ranked.h"

namespace lacake {

// Where the cache was not measured, or not lately, the newest entries have no score. They and the others are then cut
// in proportion, of the newest the oldest first.
std::vector<float> RankedPolicy::scores_between_segments(int layer, std::size_t index, std::size_t size) const {
  constexpr float kKept = std::numeric_limits<float>::max() / 2;
  const List& list = layers_[(std::size_t)layer][index];
  std::vector<float> scores = list.scores;
  score_again(layer, index, scores);
  const std::size_t length = scores.size();
  if (length <= std::max(size, n_protected())) return scores;
  const std::size_t end = length - options_.window;
  const std::size_t begin = std::clamp(length - std::min(length, list.n_unscored), options_.sinks, end);
  const double share = (double)(size - n_protected()) / (double)(length - n_protected());
  const auto n_kept = (std::size_t)std::ceil(share * (double)(end - begin));
  for (std::size_t i = begin; i < end; ++i) scores[i] = i + n_kept >= end ? kKept : -kKept;
  return scores;
}

// As the last segment that was cut decided, under the cache size of now. Grows with it.
std::size_t RankedPolicy::target_size(int layer) const {
  return n_sized_ <= options_.cache_size ? options_.cache_size : layer_size(layer, n_sized_);
}

void RankedPolicy::resize(std::size_t cache_size, CacheEdits& edits) {
  require_cache_size(options_.policy, options_.min_cache_size, cache_size);
  const bool grows = cache_size >= options_.cache_size;
  std::vector<std::size_t> before(layers_.size());
  for (int i = 0; i < shape_.n_layer; ++i) before[(std::size_t)i] = target_size(i);
  set_cache_size(cache_size);

  // Where all that was ever fed would fit, it is from here on as if nothing had been cut.
  const bool all_fits = n_fed_ <= cache_size;
  const bool joint = options_.is_joint();
  if (!grows && !all_fits && joint) return shrink_jointly(edits);
  const std::vector<std::size_t> divided = grows || all_fits ? std::vector<std::size_t>() : divide(shape_.n_layer - 1);
  for (int layer = 0; layer < shape_.n_layer; ++layer) {
    const auto index = (std::size_t)layer;
    const std::size_t size = divided.empty() ? target_size(layer) : divided[index];
    if (!grows && !all_fits) {
      shrink(layer, size, edits);
      continue;
    }
    for (List& list : layers_[index]) {
      list.size = all_fits ? cache_size : list.size + size - std::min(before[index], size);
    }
  }
}

void RankedPolicy::shrink(int layer, std::size_t size, CacheEdits& edits) {
  std::vector<std::vector<float>> scores;
  for (std::size_t i = 0; i < layers_.front().size(); ++i) scores.push_back(scores_between_segments(layer, i, size));
  cut_layer(layer, {scores.begin(), scores.end()}, size, size, edits);
}

// Entries without scores are cut in the same proportion in all lists.
void RankedPolicy::shrink_jointly(CacheEdits& edits) {
  std::size_t n_held = 0, n_free = 0;
  for (const Layer& lists : layers_) {
    for (const List& list : lists) {
      const std::size_t n = std::min(list.scores.size(), n_protected());
      n_held += list.scores.size() - n;
      n_free += options_.cache_size - n;
    }
  }
  const double share = n_held <= n_free ? 1 : (double)n_free / (double)n_held;
  std::vector<std::vector<float>> scores;
  for (int layer = 0; layer < shape_.n_layer; ++layer) {
    for (std::size_t i = 0; i < layers_.front().size(); ++i) {
      const std::size_t length = layers_[(std::size_t)layer][i].scores.size();
      const std::size_t n = std::min(length, n_protected());
      const auto size = n + (std::size_t)(share * (double)(length - n));
      scores.push_back(scores_between_segments(layer, i, size));
    }
  }
  cut_jointly({scores.begin(), scores.end()}, edits);
}

}  // namespace lacake
