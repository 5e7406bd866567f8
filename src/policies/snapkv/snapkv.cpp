#include "policies/snapkv/snapkv.h"

#include <algorithm>
#include <utility>

#include "policies/score.h"
#include "policies/settings.h"

namespace lacake {
namespace snapkv {
namespace {

// Queries of an answer that are observed before entries go.
constexpr std::size_t kObserved = 4;

}  // namespace

SnapKv::SnapKv(const Options& options, const AttentionShape& shape, double decay, Decode decode)
    : RankedPolicy(options, shape), decay_(static_cast<float>(decay)), decode_(decode) {
  // kObserved of the queries between two drops are seen: their weights are such that about `window` tokens are
  // remembered.
  const std::size_t evict_fraction = entries_at_once(options.evict_fraction, options.cache_size, options.cache_size);
  const double per_row = std::max(1.0, static_cast<double>(evict_fraction) / kObserved);
  if (decode == Decode::kMean)
    share_ = static_cast<float>(std::min(1.0, per_row / static_cast<double>(options.window)));
}

Measures SnapKv::measures(Phase phase, int layer, std::size_t, std::size_t n_new) const {
  Measures asked{.group_mean = true};
  if (phase == Phase::kPrefill && cuts(phase, layer, n_new)) asked.window = static_cast<int>(options().window);
  if (phase == Phase::kDecode && decode_ == Decode::kRow && cuts(phase, layer, n_new)) asked.window = 1;
  // A mean needs some queries, not all of them.
  if (phase == Phase::kDecode && decode_ == Decode::kMean && cuts_within(layer, kObserved)) asked.window = 1;
  return asked.window > 0 ? asked : Measures{};
}

void SnapKv::score(const Observation& seen, std::size_t list, std::span<float> scores) {
  if (seen.window == 0) return;
  // A prompt's window is not scored. An answer's is: an entry that leaves it competes with what was seen of it before.
  const std::size_t n_outside = seen.phase == Phase::kPrefill ? options().window : 0;
  const std::size_t n = scores.size() - std::min(scores.size(), n_outside);
  thread_local std::vector<float> pooled;
  pooled.resize(std::max(pooled.size(), n));
  pool(list_columns(seen.window_mean, list).first(n), std::span(pooled).first(n));
  if (seen.phase == Phase::kPrefill) {
    for (std::size_t i = 0; i < n; ++i) scores[i] = std::max(pooled[i], decay_ * scores[i]);
  } else {
    for (std::size_t i = 0; i < n; ++i) {
      // What was never seen begins with what the first query saw of it.
      const float known = scores[i] == 0 ? pooled[i] : scores[i];
      scores[i] = known + share_ * (pooled[i] - known);
    }
  }
}

std::vector<PolicyParameter> parameters() {
  return with_head_parameters({
      {.name = "window",
       .default_value = 32,
       .min = 1,
       .max = 4096,
       .integer = true,
       .help = "last queries that are observed, and last entries that always stay"},
      {.name = "decay",
       .default_value = 0.9,
       .min = 0,
       .max = 1,
       .help = "of old scores at every further turn or chunk (ours, not the paper's)"},
      {.name = "decode",
       .min = 0,
       .max = 2,
       .integer = true,
       .choices = {"mean", "row", "frozen"},
       .help = "ranks an answer's entries by a running mean of its queries, by the last query alone, or not at all"},
      at_once_parameter(),
      positions_parameter(),
  });
}

RankedPolicy::Options options(const PolicyType& type, const PolicySettings& given, std::size_t cache_size) {
  RankedPolicy::Options options{.cache_size = cache_size, .window = size_setting(type, given, "window")};
  read_shared(type, given, options);
  return options;
}

double decay(const PolicyType& type, const PolicySettings& given) { return setting(type, given, "decay"); }

Decode decode(const PolicyType& type, const PolicySettings& given) {
  return static_cast<Decode>(size_setting(type, given, "decode"));
}

}  // namespace snapkv

namespace {

std::size_t min_cache_size(const PolicySettings& given, const AttentionShape&) {
  return size_setting(snapkv_policy(), given, "window") + 1;
}

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = snapkv_policy();
  require_least(type, given, shape, cache_size);
  return std::make_unique<snapkv::SnapKv>(snapkv::options(type, given, cache_size), shape, snapkv::decay(type, given),
                                          snapkv::decode(type, given));
}

}  // namespace

const PolicyType& snapkv_policy() {
  static const PolicyType type = {
      .name = "snapkv",
      .summary = "what the last window of queries attended to, and the window",
      .paper = "SnapKV: LLM Knows What You are Looking for Before Generation (NeurIPS 2024), arXiv 2404.14469",
      .parameters = snapkv::parameters(),
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
