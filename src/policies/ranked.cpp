#include "policies/ranked.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "policies/release_excess.h"
#include "policies/score.h"
#include "policies/shared_parameters.h"

namespace lacake {

RankedPolicy::RankedPolicy(const Options& options, const AttentionShape& shape)
    : options_(options), shape_(shape), most_window_(options.window > 0 ? options.window : SIZE_MAX) {
  assert(options.cache_size >= options.min_cache_size);
  traits_.positions = options.positions;
  traits_.per_head = options.per_head;
  const bool shared = options.sharing != Options::Sharing::kEven || options.changes_sharing;
  assert(!shared || options.per_head);
  traits_.uneven_heads = shared;
  // Heads of their own lengths fill up at their own times, and each then drops a share: layers differ by it meanwhile.
  traits_.uneven_layers =
      options.uneven_layers || options.sharing == Options::Sharing::kJoint || (shared && options.evict_fraction > 0);
  traits_.layers_independent = true;
  traits_.sinks = options.sinks;
  traits_.repeat_chunk = options.repeat_chunk;
  set_cache_size(options.cache_size);
  const std::size_t n_lists = options.per_head ? (std::size_t)shape.n_head_kv : 1;
  const List empty{.scores = {}, .size = options.cache_size};
  layers_.assign((std::size_t)shape.n_layer, Layer(n_lists, empty));
}

void RankedPolicy::set_cache_size(std::size_t cache_size) {
  options_.cache_size = cache_size;
  if (options_.window_share > 0) {
    const auto share = (std::size_t)(options_.window_share * (double)cache_size);
    options_.window = std::min({share, cache_size - 1, most_window_});
  }
  traits_.window = options_.window;
  assert(n_protected() <= cache_size);
}

void RankedPolicy::share(Options::Sharing sharing) {
  assert(options_.changes_sharing);
  options_.sharing = sharing;
}

std::size_t RankedPolicy::layer_size(int, std::size_t) const { return options_.cache_size; }
std::vector<std::size_t> RankedPolicy::divide(int) { return {}; }

std::size_t RankedPolicy::held(std::size_t layer) const {
  std::size_t n = 0;
  for (const List& list : layers_[layer]) n += list.scores.size();
  return n / layers_[layer].size();
}

std::size_t RankedPolicy::held_in(int layer, std::size_t list) const {
  return layers_[(std::size_t)layer][list].scores.size();
}

std::size_t RankedPolicy::shared(std::size_t n_lists) const { return options_.cache_size * n_lists; }

void RankedPolicy::score_again(int, std::size_t, std::span<float>) const {}
void RankedPolicy::kept(int, std::size_t, std::span<const std::uint32_t>) {}
void RankedPolicy::dropped(int, std::size_t, std::uint32_t) {}

bool RankedPolicy::cuts(Phase phase, int layer, std::size_t n_new) const {
  return phase == Phase::kDecode ? cuts_within(layer, 1) : n_fed_ + n_new > options_.cache_size;
}

bool RankedPolicy::cuts_within(int layer, std::size_t n_steps) const {
  const Layer& lists = layers_[(std::size_t)layer];
  return std::any_of(lists.begin(), lists.end(), [&](const List& l) { return l.scores.size() + n_steps > l.size; });
}

bool RankedPolicy::overflows(int layer, std::size_t list) const {
  const List& l = layers_[(std::size_t)layer][list];
  return l.scores.size() > l.size;
}

std::span<const float> RankedPolicy::list_columns(std::span<const float> all, std::size_t list) const {
  const std::size_t size = all.size() / layers_.front().size();
  return all.subspan(list * size, size);
}

void RankedPolicy::update(const Observation& seen, CacheEdits& edits) {
  Layer& lists = layers_[(std::size_t)seen.layer];
  for (List& list : lists) list.scores.resize(list.scores.size() + seen.n_new, 0.0f);
  for (std::size_t i = 0; i < lists.size(); ++i) {
    lists[i].n_unscored = std::min(lists[i].n_unscored + seen.n_new, score(seen, i, lists[i].scores));
  }
  if (seen.phase == Phase::kDecode) {
    cut_step(lists, seen.layer, edits);
  } else if (n_fed_ + seen.n_new > options_.cache_size) {
    cut_segment(seen.layer, n_fed_ + seen.n_new, edits);
    n_sized_ = n_fed_ + seen.n_new;
  }
  if (seen.layer + 1 == shape_.n_layer) n_fed_ += seen.n_new;
}

RankedPolicy::Scores RankedPolicy::scores_of(int layer) const {
  Scores scores;
  for (const List& list : layers_[(std::size_t)layer]) scores.emplace_back(list.scores);
  return scores;
}

std::size_t RankedPolicy::held_elsewhere(int layer) const {
  std::size_t held = 0;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    for (const List& list : layers_[i]) held += i == (std::size_t)layer ? 0 : list.scores.size();
  }
  return held;
}

// Where layers are uneven, one that is to grow takes no more than the others have given up already: those above shrink
// later in the segment, and the whole must never hold more than C a layer.
void RankedPolicy::cut_segment(int layer, std::size_t n_tokens, CacheEdits& edits) {
  if (options_.sharing == Options::Sharing::kJoint) {
    Scores seen;
    for (int i = 0; i <= layer; ++i) {
      for (const std::span<const float> scores : scores_of(i)) seen.push_back(scores);
    }
    return cut_jointly(seen, edits);
  }
  if (options_.sharing == Options::Sharing::kSettled) {
    Kept stay;
    for (const List& list : layers_[(std::size_t)layer]) stay.push_back(choose(list.scores, list.size));
    return apply(layer, std::move(stay), edits);
  }
  const std::vector<std::size_t> sizes = divide(layer);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    cut_layer((int)i, scores_of((int)i), sizes[i], sizes[i], edits);
  }
  if (!sizes.empty()) return;
  const std::size_t wanted = layer_size(layer, n_tokens);
  const std::size_t n_lists = layers_.front().size();
  const std::size_t total = options_.cache_size * layers_.size() * n_lists;
  const std::size_t room = (total - std::min(total, held_elsewhere(layer))) / n_lists;
  const std::size_t size = std::max(std::min(wanted, room), n_protected());
  cut_layer(layer, scores_of(layer), size, wanted, edits);
}

void RankedPolicy::keep_scores(List& list, std::span<const std::uint32_t> kept) {
  const std::size_t n_scored = list.scores.size() - std::min(list.scores.size(), list.n_unscored);
  const auto first_unscored = std::lower_bound(kept.begin(), kept.end(), n_scored);
  list.n_unscored = (std::size_t)(kept.end() - first_unscored);
  for (std::size_t i = 0; i < kept.size(); ++i) list.scores[i] = list.scores[kept[i]];
  list.scores.resize(kept.size());
}

// Gives up all but these entries of the layer's lists.
void RankedPolicy::apply(int layer, Kept stay, CacheEdits& edits) {
  Layer& lists = layers_[(std::size_t)layer];
  bool drops = false;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (stay[i].size() < lists[i].scores.size()) {
      drops = true;
      kept(layer, i, stay[i]);
      keep_scores(lists[i], stay[i]);
    }
    release_excess(lists[i].scores);
  }
  if (drops) edits.keep(layer, {std::move(stay)});
}

// Lists of unlike lengths may grow to `n_entries` together while decoding: by equal parts, but first one that holds
// less than what is protected.
void RankedPolicy::share_free(std::span<List* const> lists, std::size_t n_entries) {
  const auto least = [&](const List& list) { return std::max(list.scores.size(), n_protected()); };
  std::size_t free = n_entries;
  for (const List* list : lists) free -= least(*list);
  for (std::size_t i = 0; i < lists.size(); ++i) {
    lists[i]->size = least(*lists[i]) + free / lists.size() + (i < free % lists.size() ? 1 : 0);
  }
}

// To `size` entries a list now, by these scores, and to `wanted` while decoding.
void RankedPolicy::cut_layer(int layer, const Scores& scores, std::size_t size, std::size_t wanted, CacheEdits& edits) {
  Layer& lists = layers_[(std::size_t)layer];
  if (options_.sharing == Options::Sharing::kEven) {
    apply(layer, choose_even(scores, size), edits);
    for (List& list : lists) list.size = wanted;
    return;
  }
  const std::size_t spare = options_.cache_size * lists.size() - shared(lists.size());
  const std::size_t room = (size - n_protected()) * lists.size();
  apply(layer, choose_together(scores, room - std::min(room, spare), n_safe(size)), edits);
  std::vector<List*> all;
  for (List& list : lists) all.push_back(&list);
  share_free(all, wanted * lists.size());
}

// The best of all layers' lists together, when the first of them were scored: a cascade under one rising threshold. An
// entry that is not among the best of the layers seen so far will not be among the best of all, so what is left after
// the last layer is what a choice over everything at once would have left. Room for what later lists are sure of is
// kept from the beginning; those that hold more, from an earlier segment, wait with it for their turn.
//   scores  of the lists of layers 0 .. n - 1
void RankedPolicy::cut_jointly(const Scores& scores, CacheEdits& edits) {
  const std::size_t n_lists = layers_.front().size(), n_seen = scores.size() / n_lists;
  const std::size_t safe = n_safe(options_.cache_size), total = shared(layers_.size() * n_lists);
  std::size_t taken = 0;
  for (std::size_t layer = n_seen; layer < layers_.size(); ++layer) {
    for (const List& list : layers_[layer]) taken += std::max(list.scores.size(), n_protected() + safe);
  }
  for (const std::span<const float> list : scores) taken += std::min(list.size(), n_protected());

  const Kept stay = choose_together(scores, total - std::min(total, taken), safe);
  for (std::size_t layer = 0; layer < n_seen; ++layer) {
    const auto first = stay.begin() + (std::ptrdiff_t)(layer * n_lists);
    apply((int)layer, {first, first + (std::ptrdiff_t)n_lists}, edits);
  }
  if (n_seen < layers_.size()) return;
  std::vector<List*> all;
  for (Layer& lists : layers_) {
    for (List& list : lists) all.push_back(&list);
  }
  share_free(all, total);
}

void RankedPolicy::cut_step(Layer& lists, int layer, CacheEdits& edits) {
  const auto above = [](const List& l) { return l.scores.size() > l.size; };
  if (std::none_of(lists.begin(), lists.end(), above)) return;
  const auto goes = [&](const List& l) {
    return above(l) ? std::min(n_evicted_at_once(options_.evict_fraction, l.size, options_.cache_size),
                               l.scores.size() - n_protected())
                    : 0;
  };
  if (std::any_of(lists.begin(), lists.end(), [&](const List& l) { return goes(l) > 1; })) {
    Selection selection;
    for (std::size_t i = 0; i < lists.size(); ++i) {
      List& list = lists[i];
      const std::size_t length = list.scores.size();
      const std::size_t n_stay = length - goes(list);
      const auto candidates = std::span(list.scores).subspan(options_.sinks, length - n_protected());
      selection.heads.push_back(with_protected(length, top(candidates, n_stay - n_protected())));
      if (n_stay == length) continue;
      kept(layer, i, selection.heads.back());
      keep_scores(list, selection.heads.back());
    }
    edits.keep(layer, std::move(selection));
    return;
  }
  thread_local std::vector<std::uint32_t> dropped;
  dropped.assign(lists.size(), CacheEdits::kNoEntry);
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (!above(lists[i])) continue;
    std::vector<float>& scores = lists[i].scores;
    const std::size_t n = scores.size() - n_protected();
    const std::size_t entry = options_.sinks + lowest(std::span(scores).subspan(options_.sinks, n));
    if (entry + lists[i].n_unscored >= scores.size()) --lists[i].n_unscored;
    scores.erase(scores.begin() + (std::ptrdiff_t)entry);
    dropped[i] = (std::uint32_t)entry;
    this->dropped(layer, i, dropped[i]);
  }
  edits.drop(layer, dropped);
}

std::size_t RankedPolicy::peak_entries(std::size_t n_held, std::size_t n_new) const {
  return std::min(n_held + n_new, options_.cache_size);
}

std::size_t RankedPolicy::reserve(int layer, int head) const {
  const Layer& lists = layers_[(std::size_t)layer];
  return lists[lists.size() == 1 ? 0 : (std::size_t)head].size + 1;
}

// Sizes that differ sum to what the whole may hold at most; as long as all that was fed fits, none does.
void RankedPolicy::visit(PolicyFields& state) {
  std::size_t longest = 0;
  for (int layer = 0; layer < shape_.n_layer; ++layer) {
    for (std::size_t i = 0; i < layers_.front().size(); ++i) {
      longest = std::max(longest, state.n_entries(layer, (int)i));
    }
  }
  state.number("n_fed", n_fed_, longest, INT32_MAX);
  state.number("n_sized", n_sized_, 0, n_fed_);
  if (options_.changes_sharing) {
    auto sharing = (std::size_t)options_.sharing;
    state.number("sharing", sharing, 0, (std::size_t)Options::Sharing::kSettled);
    options_.sharing = static_cast<Options::Sharing>(sharing);
  }
  const std::size_t size = options_.cache_size;
  const bool alike = n_fed_ <= size || !(traits_.uneven_layers || traits_.uneven_heads);
  std::size_t left = size * layers_.size() * layers_.front().size();
  for (int layer = 0; layer < shape_.n_layer; ++layer) {
    Layer& lists = layers_[(std::size_t)layer];
    for (std::size_t i = 0; i < lists.size(); ++i) {
      List& list = lists[i];
      const std::size_t held = state.n_entries(layer, (int)i);
      state.number("size", list.size, std::max(held, alike ? size : n_protected()), alike ? size : left);
      left -= std::min(left, list.size);
      state.number("n_unscored", list.n_unscored, 0, INT64_MAX);
      state.reals("scores", list.scores, held);
    }
  }
}

std::size_t RankedPolicy::metadata_bytes() const {
  std::size_t bytes = 0;
  for (const Layer& lists : layers_) {
    for (const List& list : lists) {
      bytes += sizeof(List) + std::max(list.scores.capacity(), list.size + 1) * sizeof(float);
    }
  }
  return bytes;
}

}  // namespace lacake
