#include "policies/lacache/lacache.h"

#include <algorithm>
#include <cassert>

#include "policies/settings.h"

namespace lacake {
namespace lacache {

LaCache::LaCache(const Settings& settings, std::size_t cache_size, Query query)
    : settings_(settings),
      cache_size_(cache_size),
      compensated_size_(compensated(ladder_of(settings), cache_size)),
      cursor_(settings.sinks),
      query_(query) {
  traits_.positions = Positions::kCacheIndex;
  traits_.sinks = settings.sinks;
  // A ladder that is stretched and keeps several entries can reach into the next one.
  traits_.ordered = ladder_of(settings).after == 1;
}

Plan LaCache::plan_for(std::size_t n_entries) const {
  // The compensation is raised by the overflow itself: with R >= 2 that very call may drop nothing.
  if (n_entries <= compensated_size_) return {};
  return plan_compaction(settings_, compensated_size_, cursor_, n_entries);
}

Measures LaCache::measures(Phase, int layer, std::size_t n_entries, std::size_t) const {
  // Nothing to measure; but a prompt that cannot be compacted is refused before attention runs, not after.
  if (layer == 0) plan_for(n_entries);
  return {};
}

std::int64_t LaCache::query_position(int, std::size_t n_kept) const {
  const auto own = static_cast<std::int64_t>(n_kept);
  if (query_ == Query::kOwn) return own;
  if (last_query_ < 0) return 0;
  return last_query_ + 1 <= own ? last_query_ + 1 : last_query_;
}

void LaCache::update(const Observation& seen, CacheEdits& edits) {
  if (seen.layer == 0) plan_ = plan_for(seen.n_entries);
  if (!plan_.walks.empty()) {
    assert(plan_.walks.front().length == seen.n_entries);  // all layers are equally long
    const auto layer = static_cast<std::size_t>(seen.layer);
    if (const std::optional<std::uint32_t> entry = dropped(plan_, layer)) {
      edits.drop(seen.layer, {&*entry, 1});
    } else {
      edits.keep(seen.layer, {{kept(plan_, layer)}});
    }
  }
  if (static_cast<std::size_t>(seen.layer) + 1 < settings_.n_layer) return;

  last_query_ = query_position(seen.layer, seen.n_entries - seen.n_new) + static_cast<std::int64_t>(seen.n_new) - 1;
  if (seen.n_entries > cache_size_) cache_size_ = compensated_size_;
  if (!plan_.walks.empty()) cursor_ = plan_.cursor;
}

std::size_t LaCache::reserve(int, int) const { return compensated_size_ + 1; }

}  // namespace lacache

namespace {

lacache::Settings settings_for(const PolicySettings& given, const AttentionShape& shape) {
  const PolicyType& type = lacache_policy();
  lacache::Settings settings;
  settings.n_layer = static_cast<std::size_t>(shape.n_layer);
  settings.span =
      given.contains("span") ? size_setting(type, given, "span") : std::clamp<std::size_t>(settings.n_layer / 2, 1, 16);
  settings.overlap = size_setting(type, given, "overlap");
  settings.sinks = size_setting(type, given, "sinks");
  lacache::check(settings);
  return settings;
}

std::size_t max_entries_per_layer(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  return lacache::compensated(lacache::ladder_of(settings_for(given, shape)), cache_size) + 1;
}

std::size_t min_cache_size(const PolicySettings& given, const AttentionShape& shape) {
  return lacache::least_cache_size(settings_for(given, shape));
}

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  require_least(lacache_policy(), given, shape, cache_size);
  const bool own = setting(lacache_policy(), given, "query") == 0;
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
               .default_value = 16,
               .min = 1,
               .max = 1024,
               .integer = true,
               .help = "layers that share a token within one ladder; below the number of layers",
               .default_text = "min(16, layers / 2)"},
              {.name = "overlap",
               .default_value = 0,
               .min = 0,
               .max = 1023,
               .integer = true,
               .help = "layers that a step of the ladder shares with the next; below span"},
              {.name = "sinks",
               .default_value = 4,
               .min = 0,
               .max = 65536,
               .integer = true,
               .help = "first tokens that always stay"},
              {.name = "query",
               .min = 0,
               .max = 1,
               .integer = true,
               .choices = {"own", "script"},
               .help = "RoPE index of the query: its own key's, or the drifting counter of the official ppl/run.py"},
          },
      .max_entries_per_layer = max_entries_per_layer,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
