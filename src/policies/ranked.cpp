#include "policies/ranked.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>
#include <utility>

#include "policies/release_excess.h"
#include "policies/score.h"
#include "policies/settings.h"

namespace lacake {

RankedPolicy::RankedPolicy(const Options& options, const AttentionShape& shape) : options_(options), shape_(shape) {
  assert(options.sinks + options.window <= options.cache_size);
  traits_.positions = options.positions;
  traits_.per_head = options.per_head;
  traits_.uneven_heads = options.adaptive_heads;
  // Heads of their own lengths fill up at their own times, and each then drops a share: layers differ by it meanwhile.
  traits_.uneven_layers = options.uneven_layers || (options.adaptive_heads && options.evict_fraction > 0);
  traits_.layers_independent = true;
  traits_.sinks = options.sinks;
  traits_.window = options.window;
  const std::size_t n_lists = options.per_head ? static_cast<std::size_t>(shape.n_head_kv) : 1;
  const List empty{.scores = {}, .size = options.cache_size};
  layers_.assign(static_cast<std::size_t>(shape.n_layer), Layer(n_lists, empty));
}

std::size_t RankedPolicy::layer_size(int, std::size_t) const { return options_.cache_size; }
std::vector<std::size_t> RankedPolicy::divide(int) { return {}; }

std::size_t RankedPolicy::held(std::size_t layer) const {
  std::size_t n = 0;
  for (const List& list : layers_[layer]) n += list.scores.size();
  return n / layers_[layer].size();
}

void RankedPolicy::kept(int, std::size_t, std::span<const std::uint32_t>) {}
void RankedPolicy::dropped(int, std::size_t, std::uint32_t) {}

bool RankedPolicy::cuts(Phase phase, int layer, std::size_t n_new) const {
  return phase == Phase::kDecode ? cuts_within(layer, 1) : n_fed_ + n_new > options_.cache_size;
}

bool RankedPolicy::cuts_within(int layer, std::size_t n_steps) const {
  const Layer& lists = layers_[static_cast<std::size_t>(layer)];
  return std::any_of(lists.begin(), lists.end(), [&](const List& l) { return l.scores.size() + n_steps > l.size; });
}

bool RankedPolicy::overflows(int layer, std::size_t list) const {
  const List& l = layers_[static_cast<std::size_t>(layer)][list];
  return l.scores.size() > l.size;
}

std::span<const float> RankedPolicy::list_columns(std::span<const float> all, std::size_t list) const {
  const std::size_t size = all.size() / layers_.front().size();
  return all.subspan(list * size, size);
}

void RankedPolicy::update(const Observation& seen, CacheEdits& edits) {
  Layer& lists = layers_[static_cast<std::size_t>(seen.layer)];
  for (std::size_t i = 0; i < lists.size(); ++i) {
    lists[i].scores.resize(lists[i].scores.size() + seen.n_new, 0.0f);
    score(seen, i, lists[i].scores);
  }
  if (seen.phase == Phase::kDecode) {
    cut_step(lists, seen.layer, edits);
  } else if (n_fed_ + seen.n_new > options_.cache_size) {
    cut_segment(seen.layer, n_fed_ + seen.n_new, edits);
  }
  if (seen.layer + 1 == shape_.n_layer) n_fed_ += seen.n_new;
}

std::vector<std::uint32_t> RankedPolicy::with_protected(std::size_t length,
                                                        const std::vector<std::uint32_t>& chosen) const {
  std::vector<std::uint32_t> kept(options_.sinks + chosen.size() + options_.window);
  const auto first = kept.begin() + static_cast<std::ptrdiff_t>(options_.sinks);
  std::iota(kept.begin(), first, 0u);
  const auto last = std::transform(chosen.begin(), chosen.end(), first,
                                   [&](std::uint32_t i) { return i + static_cast<std::uint32_t>(options_.sinks); });
  std::iota(last, kept.end(), static_cast<std::uint32_t>(length - options_.window));
  return kept;
}

// Every list keeps its own best.
std::vector<std::vector<std::uint32_t>> RankedPolicy::choose_even(const Layer& lists, std::size_t size) const {
  std::vector<std::vector<std::uint32_t>> kept;
  const std::size_t n_protected = options_.sinks + options_.window;
  for (const List& list : lists) {
    const std::size_t length = list.scores.size();
    if (length <= size) {
      kept.emplace_back(length);
      std::iota(kept.back().begin(), kept.back().end(), 0u);
      continue;
    }
    const auto candidates = std::span(list.scores).subspan(options_.sinks, length - n_protected);
    kept.push_back(with_protected(length, top(candidates, size - n_protected)));
  }
  return kept;
}

// The best of all heads together, but of each head no less than the floor (AdaKV).
std::vector<std::vector<std::uint32_t>> RankedPolicy::choose_adaptive(const Layer& lists, std::size_t size) const {
  const std::size_t n_protected = options_.sinks + options_.window;
  const auto n_safe = static_cast<std::size_t>(options_.head_floor * static_cast<double>(size - n_protected));
  std::vector<float> all;
  std::vector<std::size_t> begin;
  for (const List& list : lists) {
    begin.push_back(all.size());
    const std::size_t length = list.scores.size();
    const std::size_t n = length - std::min(length, n_protected);
    const auto candidates = std::span(list.scores).subspan(std::min(options_.sinks, length), n);
    all.insert(all.end(), candidates.begin(), candidates.end());
    for (const std::uint32_t i : top(candidates, std::min(n_safe, n))) {
      all[begin.back() + i] = std::numeric_limits<float>::max();
    }
  }
  begin.push_back(all.size());
  const std::vector<std::uint32_t> best = top(all, std::min((size - n_protected) * lists.size(), all.size()));

  std::vector<std::vector<std::uint32_t>> kept;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const auto from = std::lower_bound(best.begin(), best.end(), begin[i]);
    std::vector<std::uint32_t> chosen(from, std::lower_bound(from, best.end(), begin[i + 1]));
    for (std::uint32_t& entry : chosen) entry -= static_cast<std::uint32_t>(begin[i]);
    const std::size_t length = lists[i].scores.size();
    if (length < n_protected) {
      kept.emplace_back(length);
      std::iota(kept.back().begin(), kept.back().end(), 0u);
    } else {
      kept.push_back(with_protected(length, chosen));
    }
  }
  return kept;
}

std::size_t RankedPolicy::held_elsewhere(int layer) const {
  std::size_t held = 0;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    for (const List& list : layers_[i]) held += i == static_cast<std::size_t>(layer) ? 0 : list.scores.size();
  }
  return held;
}

// Where layers are uneven, one that is to grow takes no more than the others have given up already: those above shrink
// later in the segment, and the whole must never hold more than C a layer.
void RankedPolicy::cut_segment(int layer, std::size_t n_tokens, CacheEdits& edits) {
  const std::vector<std::size_t> sizes = divide(layer);
  for (std::size_t i = 0; i < sizes.size(); ++i) cut_layer(static_cast<int>(i), sizes[i], sizes[i], edits);
  if (!sizes.empty()) return;
  const std::size_t wanted = layer_size(layer, n_tokens);
  const std::size_t n_lists = layers_.front().size();
  const std::size_t total = options_.cache_size * layers_.size() * n_lists;
  cut_layer(layer, std::min(wanted, (total - held_elsewhere(layer)) / n_lists), wanted, edits);
}

// To `size` entries a list now, `wanted` while decoding.
void RankedPolicy::cut_layer(int layer, std::size_t size, std::size_t wanted, CacheEdits& edits) {
  Layer& lists = layers_[static_cast<std::size_t>(layer)];
  Selection selection{options_.adaptive_heads ? choose_adaptive(lists, size) : choose_even(lists, size)};

  bool drops = false;
  std::size_t n_kept = 0;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    std::vector<float>& scores = lists[i].scores;
    const std::vector<std::uint32_t>& kept = selection.heads[i];
    if (kept.size() < scores.size()) {
      drops = true;
      this->kept(layer, i, kept);
    }
    for (std::size_t j = 0; j < kept.size(); ++j) scores[j] = scores[kept[j]];
    scores.resize(kept.size());
    release_excess(scores);
    n_kept += kept.size();
  }
  // What is not there yet, decoding may fill: an even list up to its size, adaptive ones by equal parts.
  const std::size_t free = wanted * lists.size() - n_kept;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const std::size_t part = free / lists.size() + (i < free % lists.size() ? 1 : 0);
    lists[i].size = options_.adaptive_heads ? lists[i].scores.size() + part : wanted;
  }
  if (drops) edits.keep(layer, std::move(selection));
}

void RankedPolicy::cut_step(Layer& lists, int layer, CacheEdits& edits) {
  const auto above = [](const List& l) { return l.scores.size() > l.size; };
  if (std::none_of(lists.begin(), lists.end(), above)) return;
  const std::size_t n_protected = options_.sinks + options_.window;
  const auto goes = [&](const List& l) {
    return above(l) ? std::min(entries_at_once(options_.evict_fraction, l.size, options_.cache_size),
                               l.scores.size() - n_protected)
                    : 0;
  };
  if (std::any_of(lists.begin(), lists.end(), [&](const List& l) { return goes(l) > 1; })) {
    Selection selection;
    for (std::size_t i = 0; i < lists.size(); ++i) {
      List& list = lists[i];
      const std::size_t length = list.scores.size();
      const std::size_t n_stay = length - goes(list);
      const auto candidates = std::span(list.scores).subspan(options_.sinks, length - n_protected);
      selection.heads.push_back(with_protected(length, top(candidates, n_stay - n_protected)));
      if (n_stay < length) kept(layer, i, selection.heads.back());
      for (std::size_t j = 0; j < n_stay; ++j) list.scores[j] = list.scores[selection.heads.back()[j]];
      list.scores.resize(n_stay);
    }
    edits.keep(layer, std::move(selection));
    return;
  }
  thread_local std::vector<std::uint32_t> dropped;
  dropped.assign(lists.size(), CacheEdits::kNoEntry);
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (!above(lists[i])) continue;
    std::vector<float>& scores = lists[i].scores;
    const std::size_t n = scores.size() - n_protected;
    const std::size_t entry = options_.sinks + lowest(std::span(scores).subspan(options_.sinks, n));
    scores.erase(scores.begin() + static_cast<std::ptrdiff_t>(entry));
    dropped[i] = static_cast<std::uint32_t>(entry);
    this->dropped(layer, i, dropped[i]);
  }
  edits.drop(layer, dropped);
}

std::size_t RankedPolicy::reserve(int layer, int head) const {
  const Layer& lists = layers_[static_cast<std::size_t>(layer)];
  return lists[lists.size() == 1 ? 0 : static_cast<std::size_t>(head)].size + 1;
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

PolicyParameter positions_parameter() {
  return {.name = "positions",
          .min = 0,
          .max = 1,
          .integer = true,
          .choices = {"original", "compacted"},
          .help = "where keys stand for RoPE: at their token, or at their index in the cache"};
}

std::size_t ranked_max_entries(const PolicySettings&, const AttentionShape&, std::size_t cache_size) {
  return cache_size + 1;
}

PolicyParameter sinks_parameter() {
  return {.name = "sinks",
          .default_value = 4,
          .min = 0,
          .max = 65536,
          .integer = true,
          .help = "first tokens that always stay"};
}

std::vector<PolicyParameter> with_head_parameters(std::vector<PolicyParameter> own) {
  own.insert(own.end(), {{.name = "heads",
                          .min = 0,
                          .max = 1,
                          .integer = true,
                          .choices = {"even", "adaptive"},
                          .help = "adaptive: a layer's entries go to its heads by where the best scores fall (AdaKV)"},
                         {.name = "floor",
                          .default_value = 0.2,
                          .min = 0,
                          .max = 1,
                          .help = "with heads=adaptive, the least share of an even head's entries"}});
  return own;
}

PolicyParameter at_once_parameter(double default_value) {
  return {
      .name = "evict_fraction",
      .default_value = default_value,
      .min = 0,
      .max = 1,
      .help = "share of the cache that a full layer drops at once in decoding, so that looking costs little (ours)"};
}

std::size_t entries_at_once(double share, std::size_t size, std::size_t cache_size) {
  return std::max<std::size_t>(static_cast<std::size_t>(share * static_cast<double>(std::min(size, cache_size))), 1);
}

void read_shared(const PolicyType& type, const PolicySettings& given, RankedPolicy::Options& options) {
  const auto declares = [&](std::string_view name) {
    return std::any_of(type.parameters.begin(), type.parameters.end(),
                       [&](const PolicyParameter& p) { return p.name == name; });
  };
  if (declares("evict_fraction")) options.evict_fraction = setting(type, given, "evict_fraction");
  if (declares("positions") && setting(type, given, "positions") != 0) options.positions = Positions::kCacheIndex;
  if (!declares("heads")) return;
  options.adaptive_heads = setting(type, given, "heads") != 0;
  options.head_floor = setting(type, given, "floor");
  // One query has one index, but heads of different lengths would each need their own.
  if (options.adaptive_heads && options.positions == Positions::kCacheIndex) {
    throw Error(
        Error::Kind::kUsage,
        "policy " + type.name + ": heads=adaptive works with positions=original only, found positions=compacted");
  }
}

}  // namespace lacake
