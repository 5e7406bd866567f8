#include "policies/snapkv/snapkv.h"

#include <algorithm>
#include <utility>

#include "policies/parameters.h"
#include "policies/score.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace snapkv {
namespace {

// Queries of an answer that are observed before entries go.
constexpr std::size_t kObserved = 4;

}  // namespace

SnapKv::SnapKv(const Options& options, const AttentionShape& shape, double decay, Decode decode)
    : RankedPolicy(options, shape), decay_((float)decay), decode_(decode) {}

std::unique_ptr<Policy> SnapKv::clone() const { return std::make_unique<SnapKv>(*this); }

// Of the newest row in a running answer. kObserved of the queries between two evictions are seen: their weights are
// such that about `window` tokens are remembered.
float SnapKv::row_share() const {
  if (decode_ != Decode::kMean) return 1;
  const std::size_t size = options().cache_size;
  const auto n_evicted = (double)n_evicted_at_once(options().evict_fraction, size, size);
  const double per_row = std::max(1.0, n_evicted / kObserved);
  return (float)(std::min(1.0, per_row / (double)options().window));
}

Measures SnapKv::measures(Phase phase, int layer, std::size_t, std::size_t n_new) const {
  Measures asked{.group_mean = true};
  if (phase == Phase::kPrefill && cuts(phase, layer, n_new)) asked.window = (int)options().window;
  if (phase == Phase::kDecode && decode_ == Decode::kRow && cuts(phase, layer, n_new)) asked.window = 1;
  // A mean needs some queries, not all of them.
  if (phase == Phase::kDecode && decode_ == Decode::kMean && cuts_within(layer, kObserved)) asked.window = 1;
  return asked.window > 0 ? asked : Measures{};
}

std::size_t SnapKv::score(const Observation& seen, std::size_t list, std::span<float> scores) {
  // Under kFrozen an answer's entries have no score by design: they are the first to go.
  const bool frozen = seen.phase == Phase::kDecode && decode_ == Decode::kFrozen;
  if (seen.window == 0) return frozen ? 0 : kNothingSeen;
  // A prompt's window is not scored. An answer's is: an entry that leaves it competes with what was seen of it before.
  const std::size_t n_outside = seen.phase == Phase::kPrefill ? options().window : 0;
  const std::size_t n = scores.size() - std::min(scores.size(), n_outside);
  thread_local std::vector<float> pooled;
  pooled.resize(std::max(pooled.size(), n));
  pool(list_columns(seen.window_mean, list).first(n), std::span(pooled).first(n));
  if (seen.phase == Phase::kPrefill) {
    for (std::size_t i = 0; i < n; ++i) scores[i] = std::max(pooled[i], decay_ * scores[i]);
  } else {
    const float share = row_share();
    for (std::size_t i = 0; i < n; ++i) {
      // What was never seen begins with what the first query saw of it.
      const float known = scores[i] == 0 ? pooled[i] : scores[i];
      scores[i] = known + share * (pooled[i] - known);
    }
  }
  return n_outside;
}

std::vector<PolicyParameter> parameters(bool joint) {
  return with_head_parameters(
      {
          {.name = "window",
           .kind = PolicyParameter::Kind::kWholeNumber,
           .default_value = 32,
           .min = 1,
           .max = 4096,
           .help = "last queries that are observed, and last entries that always stay"},
          {.name = "decay",
           .default_value = 0.9,
           .min = 0,
           .max = 1,
           .help = "of old scores at every further turn or chunk (ours, not the paper's)"},
          {.name = "decode",
           .kind = PolicyParameter::Kind::kWord,
           .default_value = "mean",
           .words = {"mean", "row", "frozen"},
           .help =
               "ranks an answer's entries by a running mean of its queries, by the last query alone, or not at all"},
          evict_fraction_parameter(),
          positions_parameter(),
      },
      {.joint = joint});
}

double decay(const PolicyType& type, const PolicySettings& given) { return number_setting(type, given, "decay"); }

Decode decode(const PolicyType& type, const PolicySettings& given) {
  if (has_word(type, given, "decode", "row")) return Decode::kRow;
  return has_word(type, given, "decode", "frozen") ? Decode::kFrozen : Decode::kMean;
}

}  // namespace snapkv

namespace {

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = snapkv_policy();
  return std::make_unique<snapkv::SnapKv>(ranked_options(type, given, shape, cache_size), shape,
                                          snapkv::decay(type, given), snapkv::decode(type, given));
}

}  // namespace

const PolicyType& snapkv_policy() {
  static const PolicyType type = {
      .name = "snapkv",
      .summary = "what the last window of queries attended to, and the window",
      .paper = "SnapKV: LLM Knows What You are Looking for Before Generation (NeurIPS 2024), arXiv 2404.14469",
      .parameters = snapkv::parameters(),
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = ranked_min_cache_size<snapkv_policy>,
      .make = make,
  };
  return type;
}

}  // namespace lacake
