#include "policies/learned/learned.h"

#include <algorithm>
#include <utility>

#include "policies/parameters.h"
#include "policies/ranked.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace {

// Of a small cache the recent window takes no more than this, so that scores have something to choose.
constexpr double kMostRecent = 0.25;

// A token's score is known when it is written and never changes.
class Learned final : public RankedPolicy {
 public:
  using RankedPolicy::RankedPolicy;

  // Always, because what was not asked when a token came is never said again.
  Measures measures(Phase, int, std::size_t, std::size_t) const override { return {.learned = true}; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Learned>(*this); }

  // Scores of another calibration mean something else.
  void visit(PolicyFields& state) override {
    std::int64_t calibration = shape().calibration;
    state.number("calibration", calibration, calibration, calibration);
    RankedPolicy::visit(state);
  }

 protected:
  std::size_t score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    const std::span<const float> fresh = list_columns(seen.learned, list);
    std::copy(fresh.begin(), fresh.end(), scores.end() - (std::ptrdiff_t)fresh.size());
    return 0;
  }
};

std::size_t min_cache_size(const PolicySettings& given, const AttentionShape& shape) {
  require_calibration(learned_policy(), shape);
  // Sinks, a quarter for what is recent, and one entry to be chosen.
  return 2 * size_setting(learned_policy(), given, "sinks") + 2;
}

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  RankedPolicy::Options options = ranked_options(learned_policy(), given, shape, cache_size);
  options.window_share = kMostRecent;
  return std::make_unique<Learned>(options, shape);
}

std::vector<PolicyParameter> parameters() {
  return with_head_parameters({sinks_parameter(),
                               {.name = "window",
                                .kind = PolicyParameter::Kind::kWholeNumber,
                                .default_value = 128,
                                .min = 1,
                                .max = 65536,
                                .help = "last entries that always stay; at most a quarter "
                                        "of the cache"}},
                              {.heads = "joint"});
}

}  // namespace

const PolicyType& learned_policy() {
  static const PolicyType type = {
      .name = "learned",
      .summary = "what a linear map learned for this model says each token is worth; attention is not looked at",
      .paper = "KVzap: Fast, Adaptive, and Faithful KV Cache Pruning (2026), arXiv 2601.07891",
      .parameters = parameters(),
      .needs_calibration = true,
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
