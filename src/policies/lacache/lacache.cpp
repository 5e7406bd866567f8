#include "policies/lacache/lacache.h"

#include <algorithm>
#include <cassert>

#include "policies/parameters.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace lacache {

LaCache::LaCache(const Settings& settings, std::size_t cache_size, Query query)
    : settings_(settings),
      cache_size_(cache_size),
      compensated_size_(compensated(ladder_of(settings), cache_size)),
      cursor_(settings.sinks),
      query_(query) {
  traits_.positions = Positions::kCompacted;
  traits_.sinks = settings.sinks;
  // A ladder that is stretched and keeps several entries can reach into the next one.
  traits_.ordered = ladder_of(settings).after == 1;
}

Plan LaCache::plan_for(std::size_t n_entries) const {
  // The compensation is raised by the overflow itself: with R >= 2 that very call may drop nothing.
  if (n_entries <= compensated_size_) return {};
  return plan_compaction(settings_, compensated_size_, cursor_, n_entries);
}

Measures LaCache::measures(Phase, int layer, std::size_t n_entries, std::size_t n_new) const {
  // Nothing to measure; but a prompt that cannot be compacted is refused before attention runs, not after.
  if (layer == 0) plan_for(n_entries);
  const std::size_t n_kept = n_entries - n_new;
  return {.query_shift = query_position(n_kept) - (std::int64_t)n_kept};
}

std::int64_t LaCache::query_position(std::size_t n_kept) const {
  const auto own = (std::int64_t)n_kept;
  if (query_ == Query::kOwn) return own;
  if (last_query_ < 0) return 0;
  return last_query_ + 1 <= own ? last_query_ + 1 : last_query_;
}

void LaCache::update(const Observation& seen, CacheEdits& edits) {
  if (seen.layer == 0) plan_ = plan_for(seen.n_entries);
  if (!plan_.walks.empty()) {
    assert(plan_.walks.front().length == seen.n_entries);  // all layers are equally long
    const auto layer = (std::size_t)seen.layer;
    if (const std::optional<std::uint32_t> entry = dropped(plan_, layer)) {
      edits.drop(seen.layer, {&*entry, 1});
    } else {
      edits.keep(seen.layer, {{kept(plan_, layer)}});
    }
  }
  if ((std::size_t)seen.layer + 1 < settings_.n_layer) return;

  last_query_ = query_position(seen.n_entries - seen.n_new) + (std::int64_t)seen.n_new - 1;
  if (seen.n_entries > cache_size_) cache_size_ = compensated_size_;
  if (!plan_.walks.empty()) cursor_ = plan_.cursor;
  n_held_ = plan_.walks.empty() ? seen.n_entries : plan_.length_after();
}

std::size_t LaCache::peak_entries(std::size_t n_held, std::size_t n_new) const {
  return std::min(n_held + n_new, compensated_size_);
}

std::size_t LaCache::reserve(int, int) const { return compensated_size_ + 1; }

// Not in the paper. The ladder compacts again and again, a round from the sinks at most each time, until all fits: such
// a round never reaches past the end.
void LaCache::resize(std::size_t cache_size, CacheEdits& edits) {
  require_cache_size(lacache_policy().name, least_cache_size(settings_), cache_size);
  const bool raised = cache_size_ == compensated_size_;
  compensated_size_ = compensated(ladder_of(settings_), cache_size);
  cache_size_ = raised || n_held_ > cache_size ? compensated_size_ : cache_size;

  std::vector<Plan> plans;
  const std::size_t before = n_held_;
  while (n_held_ > compensated_size_) {
    const std::size_t size =
        std::max(compensated_size_, n_held_ - std::min(n_held_, one_round(settings_, compensated_size_)));
    if (cursor_ + settings_.n_layer > size) cursor_ = settings_.sinks;
    plans.push_back(plan_compaction(settings_, size, cursor_, n_held_));
    cursor_ = plans.back().cursor;
    n_held_ = plans.back().length_after();
  }
  if (cursor_ + settings_.n_layer > compensated_size_) cursor_ = settings_.sinks;
  // The query stays as far from its own key as it was.
  if (last_query_ >= 0) last_query_ -= (std::int64_t)(before - n_held_);
  for (std::size_t layer = 0; layer < settings_.n_layer && !plans.empty(); ++layer) {
    std::vector<std::uint32_t> list = kept(plans.front(), layer);
    for (std::size_t i = 1; i < plans.size(); ++i) {
      std::vector<std::uint32_t> again = kept(plans[i], layer);
      for (std::uint32_t& index : again) index = list[index];
      list = std::move(again);
    }
    edits.keep((int)layer, {{std::move(list)}});
  }
}

std::unique_ptr<Policy> LaCache::clone() const { return std::make_unique<LaCache>(*this); }

void LaCache::visit(PolicyFields& state) {
  for (std::size_t layer = 0; layer < settings_.n_layer; ++layer) {
    const std::size_t n = state.n_entries((int)layer, 0);  // all layers are equally long
    state.number("n_held", n_held_, n, std::min(n, compensated_size_));
  }
  state.number("cache_size", cache_size_, std::min(cache_size_, compensated_size_), compensated_size_);
  state.number("cursor", cursor_, settings_.sinks, compensated_size_ - settings_.n_layer);  // see plan_compaction
  state.number("last_query", last_query_, -1, INT32_MAX / 2);  // what comes behind it is a position too
}

}  // namespace lacache

namespace {

lacache::Settings settings_for(const PolicySettings& given, const AttentionShape& shape) {
  const PolicyType& type = lacache_policy();
  lacache::Settings settings;
  settings.n_layer = (std::size_t)shape.n_layer;
  settings.span =
      given.contains("span") ? size_setting(type, given, "span") : std::clamp<std::size_t>(settings.n_layer / 2, 1, 16);
  settings.overlap = size_setting(type, given, "overlap");
  settings.sinks = size_setting(type, given, "sinks");
  lacache::check(settings);
  return settings;
}

// About the share of the layers: half of them at 50 %, as the paper's needle command has it. A ladder of B =
// ceil(layers / span) entries leaves one of them to each layer and another one to the next, so that every token stays
// in some layer where one round of ladders is enough. Below half a second round would cost many tokens (about (sinks +
// layers) B^2), so ladders there are a tenth steeper than the share asks, which makes up for the sinks and the last
// entries that they cannot take. Above half of the layers the span changes nothing.
std::size_t span_of_share(std::size_t n_layer, double share) {
  constexpr double kSteeper = 1.1;
  std::size_t span = std::max<std::size_t>(n_layer / 2, 1);
  const auto enough = [&] { return share * (double)((n_layer + span - 1) / span) >= kSteeper; };
  while (share < 0.5 && span > 1 && !enough()) --span;
  return span;
}

PolicySettings settings_at_opening(const PolicySettings& given, const AttentionShape& shape, double share) {
  if (share <= 0 || given.contains("span")) return {};
  const std::size_t overlap = size_setting(lacache_policy(), given, "overlap");
  return {{"span", std::max(span_of_share((std::size_t)shape.n_layer, share), overlap + 1)}};
}

std::size_t max_entries_per_layer(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  return lacache::compensated(lacache::ladder_of(settings_for(given, shape)), cache_size) + 1;
}

std::size_t min_cache_size(const PolicySettings& given, const AttentionShape& shape) {
  return lacache::least_cache_size(settings_for(given, shape));
}

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  require_cache_size(lacache_policy(), given, shape, cache_size);
  const bool own = has_word(lacache_policy(), given, "query", "own");
  return std::make_unique<lacache::LaCache>(settings_for(given, shape), cache_size,
                                            own ? lacache::Query::kOwn : lacache::Query::kScript);
}

}  // namespace

const PolicyType& lacache_policy() {
  static const PolicyType type = {
      .name = "lacache",
      .summary = "a ladder: layers keep different tokens, and the old part is compacted again and again",
      .paper =
          "LaCache: Ladder-Shaped KV Caching for Efficient Long-Context Modeling of LLMs (ICML 2025), "
          "arXiv 2507.14204",
      .parameters =
          {
              {.name = "span",
               .kind = PolicyParameter::Kind::kWholeNumber,
               .default_value = 16,
               .min = 1,
               .max = 1024,
               .help = "layers that share a token within one ladder, below the number of layers; its default follows a "
                       "budget that is a share: about layers * share, at most layers / 2",
               .default_text = "min(16, layers / 2)"},
              {.name = "overlap",
               .kind = PolicyParameter::Kind::kWholeNumber,
               .default_value = 0,
               .min = 0,
               .max = 1023,
               .help = "layers that a step of the ladder shares with the next; below span"},
              sinks_parameter(),
              {.name = "query",
               .kind = PolicyParameter::Kind::kWord,
               .default_value = "own",
               .words = {"own", "script"},
               .help = "RoPE index of the query: its own key's, or the drifting counter of the official ppl/run.py"},
          },
      .max_entries_per_layer = max_entries_per_layer,
      .min_cache_size = min_cache_size,
      .make = make,
      .settings_at_opening = settings_at_opening,
  };
  return type;
}

}  // namespace lacake
