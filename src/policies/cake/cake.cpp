#include "policies/cake/cake.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "lacake/error.h"
#include "policies/parameters.h"
#include "policies/release_excess.h"
#include "policies/score.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace cake {
namespace {

// The chosen entries, then the last `window` in order.
std::vector<std::uint32_t> with_window(std::vector<std::uint32_t> chosen, std::size_t window, std::size_t n_entries) {
  const std::size_t n_chosen = chosen.size();
  chosen.resize(n_chosen + window);
  std::iota(chosen.begin() + (std::ptrdiff_t)n_chosen, chosen.end(), (std::uint32_t)(n_entries - window));
  return chosen;
}

// Leaves the scores of the entries kept, in their order; 0 for those that have none yet. `n_entries`: of those `kept`
// counts.
void gather(std::vector<float>& scores, const std::vector<std::uint32_t>& kept, std::size_t n_entries) {
  thread_local std::vector<float> all;
  all.assign(scores.begin(), scores.end());
  all.resize(n_entries, 0.0f);
  scores.resize(kept.size());
  for (std::size_t i = 0; i < kept.size(); ++i) scores[i] = all[kept[i]];
}

// Columns of one KV head's query heads.
std::span<const float> head_rows(std::span<const float> all, std::size_t head_kv, std::size_t n_head_kv) {
  const std::size_t size = all.size() / n_head_kv;
  return all.subspan(head_kv * size, size);
}

}  // namespace

Cake::Cake(const Settings& settings, const AttentionShape& shape)
    : settings_(settings), shape_(shape), layers_((std::size_t)shape.n_layer), preferences_(layers_.size()) {
  traits_.per_head = true;
  traits_.uneven_layers = true;
  traits_.positions = settings.positions;
  traits_.ordered = !settings.by_score;
  traits_.layers_independent = true;
  traits_.window = settings.window;
  for (Layer& layer : layers_) layer.budget = settings.cache_size - settings.window;
}

// The official test, though C includes the window already; over all that was fed, so that a prompt in chunks meets it
// where the whole prompt does.
bool Cake::cuts_prompt(std::size_t n_new) const { return n_fed_ + n_new > settings_.cache_size + settings_.window; }

bool Cake::cuts_decode(std::size_t layer, std::size_t n_entries) const {
  return n_entries > layers_[layer].budget + settings_.window;
}

Measures Cake::measures(Phase phase, int layer, std::size_t n_entries, std::size_t n_new) const {
  Measures asked;
  if (phase == Phase::kPrefill && cuts_prompt(n_new)) asked.window = (int)settings_.window;
  if (phase == Phase::kDecode && cuts_decode((std::size_t)layer, n_entries)) {
    asked.window = 1;
    // The official order of sums decides between equal scores; by position there is none to follow.
    asked.group_mean = !settings_.by_score;
  }
  return asked;
}

void Cake::update(const Observation& seen, CacheEdits& edits) {
  const auto index = (std::size_t)seen.layer;
  const bool last = index + 1 == layers_.size();
  assert(layers_[index].length + seen.n_new == seen.n_entries);
  layers_[index].length = seen.n_entries;
  if (seen.phase == Phase::kDecode) {
    if (cuts_decode(index, seen.n_entries)) cut_decode(seen, edits);
  } else if (cuts_prompt(seen.n_new)) {
    score(seen);
    if (settings_.cascade || last) divide(index, edits);
  }
  if (last) n_fed_ += seen.n_new;
}

void Cake::score(const Observation& seen) {
  Layer& layer = layers_[(std::size_t)seen.layer];
  const auto n_head_kv = (std::size_t)shape_.n_head_kv;
  assert(seen.window > 0 && seen.n_entries > settings_.window);
  layer.candidates = seen.n_entries - settings_.window;
  layer.ranked = false;

  std::optional<float> preference;
  if (!settings_.uniform) preference = lacake::preference(seen, layer.candidates, settings_.tau1, settings_.tau2);
  preferences_.see((std::size_t)seen.layer, preference);

  layer.scores.resize(n_head_kv);
  for (std::size_t head = 0; head < n_head_kv; ++head) {
    std::vector<float> scores =
        evict_score(head_rows(seen.window_mean, head, n_head_kv), head_rows(seen.window_variance, head, n_head_kv),
                    seen.n_entries, layer.candidates, (float)settings_.gamma);
    std::vector<float>& known = layer.scores[head];
    for (std::size_t i = 0; i < std::min(known.size(), scores.size()); ++i) {
      scores[i] = std::max(scores[i], (float)settings_.decay * known[i]);
    }
    known = std::move(scores);
  }
}

// Slices the whole total over all layers that hold anything: those up to `last_seen` in a first segment (the paper's
// cascade), all of them later. A layer that this segment has not reached yet counts with what it holds.
void Cake::divide(std::size_t last_seen, CacheEdits& edits) {
  const bool first_segment = n_fed_ == 0;
  std::vector<float> preferences;
  std::vector<std::size_t> caps;
  for (std::size_t i = 0; i < layers_.size() && (i <= last_seen || !first_segment); ++i) {
    Layer& layer = layers_[i];
    if (i > last_seen) layer.candidates = layer.length - std::min(layer.length, settings_.window);
    preferences.push_back(preferences_.now(i));
    caps.push_back(layer.candidates);
  }
  const std::size_t total = (settings_.cache_size - settings_.window) * layers_.size();
  std::vector<std::size_t> budgets =
      first_segment ? clip(divide_budget(preferences, total, caps), caps) : divide_whole(preferences, total, caps);
  // Layers that were cut before this segment reached them may be too short for the whole total.
  if (!first_segment && last_seen + 1 == layers_.size()) spread_lost(budgets, total);
  for (std::size_t i = 0; i < budgets.size(); ++i) {
    layers_[i].budget = budgets[i];
    shrink(i, edits);
  }
}

void Cake::shrink(std::size_t index, CacheEdits& edits) {
  Layer& layer = layers_[index];
  // Without any scores the choice would be blind. It can wait: such a layer holds at most C + W, and its turn comes in
  // this segment.
  if (layer.scores.empty()) return;
  const std::size_t candidates = layer.length - std::min(layer.length, settings_.window);
  // Freshly scored entries are put in order even if none goes: decoding pools over neighbours in stored order.
  if ((layer.ranked || !settings_.by_score) && candidates <= layer.budget) return;
  const std::size_t n_chosen = std::min(candidates, layer.budget);
  Selection selection;
  for (std::vector<float>& scores : layer.scores) {
    scores.resize(candidates);
    selection.heads.push_back(with_window(best(scores, n_chosen), settings_.window, layer.length));
    gather(scores, selection.heads.back(), layer.length);
    scores.resize(n_chosen);
    release_excess(scores);
  }
  layer.length = n_chosen + settings_.window;
  layer.ranked = true;
  edits.keep((int)index, std::move(selection));
}

std::vector<std::uint32_t> Cake::best(std::span<const float> scores, std::size_t count) const {
  return settings_.by_score ? rank(scores, count) : top(scores, count);
}

// By the row of the current query alone. Scores of earlier segments do not matter here, but move along.
void Cake::cut_decode(const Observation& seen, CacheEdits& edits) {
  Layer& layer = layers_[(std::size_t)seen.layer];
  const auto n_head_kv = (std::size_t)shape_.n_head_kv;
  assert(seen.window == 1);
  const std::size_t n_evicted =
      n_evicted_at_once(settings_.evict_fraction, layer.budget + settings_.window, settings_.cache_size);
  const std::size_t n_stay = layer.budget + 1 - std::min(n_evicted, layer.budget + 1);
  Selection selection;
  for (std::size_t head = 0; head < n_head_kv; ++head) {
    const std::vector<float> scores = evict_score(head_rows(seen.window_mean, head, n_head_kv), {}, seen.n_entries,
                                                  seen.n_entries - settings_.window, 0);
    selection.heads.push_back(with_window(best(scores, n_stay), settings_.window, seen.n_entries));
    if (!layer.scores.empty()) gather(layer.scores[head], selection.heads.back(), seen.n_entries);
  }
  layer.length = n_stay + settings_.window;
  edits.keep(seen.layer, std::move(selection));
}

// Without the cascade all layers hold what they were given until the last one was seen.
std::size_t Cake::peak_entries(std::size_t n_held, std::size_t n_new) const {
  return settings_.cascade ? std::min(n_held + n_new, settings_.cache_size + settings_.window) : n_held + n_new;
}

// Not in the paper. Shrinks by the scores of the last segment that was cut and the preferences of then.
void Cake::resize(std::size_t cache_size, CacheEdits& edits) {
  require_cache_size(cake_policy().name, settings_.window + 1, cache_size);
  const std::size_t before = std::exchange(settings_.cache_size, cache_size);
  const std::size_t even = cache_size - settings_.window;
  if (cache_size >= before) {
    for (Layer& layer : layers_) layer.budget += cache_size - before;
    return;
  }
  // What was fed in all would not be cut under the new size either.
  if (n_fed_ <= cache_size + settings_.window) {
    for (Layer& layer : layers_) layer.budget = even;
    return;
  }
  std::vector<float> preferences;
  std::vector<std::size_t> caps;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    preferences.push_back(preferences_.of(i));
    caps.push_back(layers_[i].length - std::min(layers_[i].length, settings_.window));
  }
  std::vector<std::size_t> budgets = divide_whole(preferences, even * layers_.size(), caps);
  spread_lost(budgets, even * layers_.size());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].budget = budgets[i];
    if (caps[i] > budgets[i]) shrink_between_segments(i, edits);
  }
}

// Entries that were never scored, those of an answer above all, cannot be compared with the others: both are cut in
// proportion, the oldest of the former first. What stays keeps its order.
void Cake::shrink_between_segments(std::size_t index, CacheEdits& edits) {
  Layer& layer = layers_[index];
  const std::size_t candidates = layer.length - settings_.window;
  Selection selection;
  for (std::size_t head = 0; head < (std::size_t)shape_.n_head_kv; ++head) {
    std::vector<float> scores = layer.scores.empty() ? std::vector<float>() : layer.scores[head];
    scores.resize(candidates, 0.0f);
    std::vector<std::uint32_t> unscored;
    for (std::uint32_t i = 0; i < candidates; ++i) {
      if (scores[i] == 0) unscored.push_back(i);
    }
    // Rounded up, and at least so many that the scored ones suffice for the rest.
    const std::size_t n_scored = candidates - unscored.size();
    const std::size_t part = (unscored.size() * layer.budget + candidates - 1) / candidates;
    const std::size_t n_unscored = std::max(part, layer.budget - std::min(layer.budget, n_scored));
    constexpr float kKept = std::numeric_limits<float>::max();
    for (std::size_t i = 0; i < unscored.size(); ++i) {
      scores[unscored[i]] = i + n_unscored >= unscored.size() ? kKept : -kKept;
    }
    std::vector<std::uint32_t> chosen = best(scores, layer.budget);
    std::sort(chosen.begin(), chosen.end());
    selection.heads.push_back(with_window(std::move(chosen), settings_.window, layer.length));
    if (layer.scores.empty()) continue;
    gather(layer.scores[head], selection.heads.back(), layer.length);
    release_excess(layer.scores[head]);
  }
  layer.length = layer.budget + settings_.window;
  edits.keep((int)index, std::move(selection));
}

std::unique_ptr<Policy> Cake::clone() const { return std::make_unique<Cake>(*this); }

void Cake::visit(PolicyFields& state) {
  // No layer holds more than was fed, and the window, as far as it was fed, is held by all.
  std::size_t longest = 0, shortest = INT32_MAX;
  for (int index = 0; index < shape_.n_layer; ++index) {
    longest = std::max(longest, state.n_entries(index, 0));
    shortest = std::min(shortest, state.n_entries(index, 0));
  }
  state.number("n_fed", n_fed_, longest, shortest < settings_.window ? shortest : INT32_MAX);
  preferences_.visit(state);
  for (int index = 0; index < shape_.n_layer; ++index) {
    Layer& layer = layers_[(std::size_t)index];
    const std::size_t n = state.n_entries(index, 0);  // all heads are equally long
    state.number("length", layer.length, n, n);
    state.number("budget", layer.budget, 0, INT32_MAX);
    std::size_t ranked = layer.ranked ? 1 : 0, scored = layer.scores.empty() ? 0 : 1;
    state.number("ranked", ranked, 0, 1);
    state.number("scored", scored, 0, n < settings_.window ? 0 : 1);  // scored entries have a window behind them
    layer.ranked = ranked == 1;
    layer.scores.resize(scored * (std::size_t)shape_.n_head_kv);
    for (std::vector<float>& scores : layer.scores) {
      std::size_t n_scores = scores.size();
      state.number("n_scores", n_scores, 0, n);
      state.reals("scores", scores, n_scores);
    }
  }
}

std::size_t Cake::reserve(int layer, int) const {
  // While all that was fed fits into C + W, a further segment may fill a layer up to there.
  const std::size_t uncut = settings_.cache_size + settings_.window;
  if (n_fed_ < uncut) return uncut + 1;
  const Layer& held = layers_[(std::size_t)layer];
  return std::max(held.length, held.budget + settings_.window) + 1;
}

std::size_t Cake::metadata_bytes() const {
  std::size_t bytes = layers_.capacity() * sizeof(Layer) + preferences_.bytes();
  for (const Layer& layer : layers_) {
    for (const std::vector<float>& scores : layer.scores) bytes += scores.capacity() * sizeof(float);
  }
  return bytes;
}

}  // namespace cake

namespace {

std::size_t window_of(const PolicySettings& given) { return size_setting(cake_policy(), given, "window"); }

std::size_t max_entries_per_layer(const PolicySettings& given, const AttentionShape&, std::size_t cache_size) {
  return cache_size + window_of(given) + 1;
}

std::size_t min_cache_size(const PolicySettings& given, const AttentionShape&) { return window_of(given) + 1; }

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = cake_policy();
  require_cache_size(type, given, shape, cache_size);
  cake::Settings settings;
  settings.cache_size = cache_size;
  settings.window = window_of(given);
  settings.gamma = number_setting(type, given, "gamma");
  settings.tau1 = number_setting(type, given, "tau1");
  settings.tau2 = number_setting(type, given, "tau2");
  settings.decay = number_setting(type, given, "decay");
  settings.cascade = has_word(type, given, "cascade", "on");
  settings.uniform = has_word(type, given, "budgets", "uniform");
  settings.positions = positions_setting(type, given);
  // Indices of an order by score would mean nothing to RoPE.
  settings.by_score = has_word(type, given, "order", "score") && settings.positions == Positions::kOriginal;
  if (settings.positions == Positions::kCompacted && given.contains("order") &&
      has_word(type, given, "order", "score")) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = policy_subject(type.name),
                 .expected = "order=position with positions=compacted",
                 .found = "order=score"});
  }
  settings.evict_fraction = number_setting(type, given, "evict_fraction");
  return std::make_unique<cake::Cake>(settings, shape);
}

}  // namespace

const PolicyType& cake_policy() {
  static const PolicyType type = {
      .name = "cake",
      .summary = "layers share one budget by how dispersed and how shifting their attention is",
      .paper = "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences (ICLR 2025), arXiv 2503.12491",
      .parameters =
          {
              {.name = "window",
               .kind = PolicyParameter::Kind::kWholeNumber,
               .default_value = 32,
               .min = 2,
               .max = 4096,
               .help = "last queries that are observed, and last entries that always stay"},
              {.name = "gamma",
               .default_value = 200,
               .min = 0,
               .max = 1e6,
               .help = "weight of an entry's variance of attention beside its mean"},
              {.name = "tau1", .default_value = 1, .min = 0.2, .max = 100, .help = "temperature of the dispersion"},
              {.name = "tau2", .default_value = 1, .min = 0.2, .max = 100, .help = "temperature of the shift"},
              {.name = "decay",
               .default_value = 0.9,
               .min = 0,
               .max = 1,
               .help = "of old scores at every further turn or chunk (ours, not the paper's)"},
              {.name = "cascade",
               .kind = PolicyParameter::Kind::kWord,
               .default_value = "on",
               .words = {"on", "off"},
               .help = "off: all layers are cut after the last one, so the prompt is held in full until then"},
              {.name = "budgets",
               .kind = PolicyParameter::Kind::kWord,
               .default_value = "preference",
               .words = {"preference", "uniform"},
               .help = "uniform: all layers alike, for ablation; gamma=0 is the other half (SnapKV's score)"},
              {.name = "order",
               .kind = PolicyParameter::Kind::kWord,
               .default_value = "score",
               .words = {"score", "position"},
               .help = "what entries are neighbours when their attention is pooled; by position decoding is faster"},
              evict_fraction_parameter(),
              positions_parameter(),
          },
      .max_entries_per_layer = max_entries_per_layer,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
