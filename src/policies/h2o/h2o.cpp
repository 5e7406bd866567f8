#include "policies/h2o/h2o.h"

#include <algorithm>
#include <utility>

#include "policies/parameters.h"
#include "policies/ranked.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace {

class H2o final : public RankedPolicy {
 public:
  H2o(const Options& options, const AttentionShape& shape, std::size_t every)
      : RankedPolicy(options, shape), every_(every) {}

  // Also while all fits: the sums are over all of the conversation.
  Measures measures(Phase phase, int, std::size_t, std::size_t) const override {
    if (phase == Phase::kDecode && n_fed() % every_ != 0) return {};
    return {.accumulated = true, .group_mean = true};
  }

  std::unique_ptr<Policy> clone() const override { return std::make_unique<H2o>(*this); }

 protected:
  std::size_t score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    if (seen.accumulated.empty()) return kNothingSeen;
    const std::span<const float> sums = list_columns(seen.accumulated, list);
    // One query stands for those that were not looked at.
    const float weight = seen.phase == Phase::kDecode ? (float)every_ : 1.0f;
    for (std::size_t i = 0; i < scores.size(); ++i) scores[i] += weight * sums[i];
    return 0;
  }

 private:
  std::size_t every_;
};

std::size_t min_cache_size(const PolicySettings&, const AttentionShape&) { return 2; }

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = h2o_policy();
  RankedPolicy::Options options = ranked_options(type, given, shape, cache_size);
  options.window_share = number_setting(type, given, "recent");
  return std::make_unique<H2o>(options, shape, size_setting(type, given, "every"));
}

std::vector<PolicyParameter> parameters() {
  return with_head_parameters(
      {{.name = "recent", .default_value = 0.5, .min = 0, .max = 1, .help = "share of the cache for the last entries"},
       {.name = "every",
        .kind = PolicyParameter::Kind::kWholeNumber,
        .default_value = 4,
        .min = 1,
        .max = 1024,
        .help = "in decoding one query in so many is looked at, and counts for all of them (ours; 1: the paper's)"},
       evict_fraction_parameter(),
       positions_parameter()});
}

}  // namespace

const PolicyType& h2o_policy() {
  static const PolicyType type = {
      .name = "h2o",
      .summary = "half the most recent, half those that gathered most attention so far (heavy hitters)",
      .paper =
          "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models (NeurIPS 2023), "
          "arXiv 2306.14048",
      .parameters = parameters(),
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
