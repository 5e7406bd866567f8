#include "policies/keydiff/keydiff.h"

#include <utility>

#include "policies/parameters.h"
#include "policies/ranked.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace {

class KeyDiff final : public RankedPolicy {
 public:
  KeyDiff(const Options& options, const AttentionShape& shape, KeyMean mean)
      : RankedPolicy(options, shape), mean_(mean) {}

  Measures measures(Phase phase, int layer, std::size_t, std::size_t n_new) const override {
    if (!cuts(phase, layer, n_new)) return {};
    return {.key_similarity = true, .key_mean = mean_};
  }

  std::unique_ptr<Policy> clone() const override { return std::make_unique<KeyDiff>(*this); }

 protected:
  std::size_t score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    if (seen.key_similarity.empty()) return kNothingSeen;
    const std::span<const float> similarity = list_columns(seen.key_similarity, list);
    for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = -similarity[i];
    return 0;
  }

 private:
  KeyMean mean_;
};

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = keydiff_policy();
  const bool normalised = has_word(type, given, "mean", "normalised");
  return std::make_unique<KeyDiff>(ranked_options(type, given, shape, cache_size), shape,
                                   normalised ? KeyMean::kNormalised : KeyMean::kPlain);
}

std::vector<PolicyParameter> parameters() {
  return with_head_parameters({window_parameter(1, 0),
                               {.name = "mean",
                                .kind = PolicyParameter::Kind::kWord,
                                .default_value = "plain",
                                .words = {"plain", "normalised"},
                                .help = "keys are compared with the mean of keys, or of keys brought to length 1"},
                               evict_fraction_parameter(1.0 / 8),
                               positions_parameter()});
}

}  // namespace

const PolicyType& keydiff_policy() {
  static const PolicyType type = {
      .name = "keydiff",
      .summary = "keys that differ most from their head's mean key; attention is not looked at",
      .paper =
          "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in Resource-Constrained "
          "Environments (2025), arXiv 2504.15364",
      .parameters = parameters(),
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = ranked_min_cache_size<keydiff_policy>,
      .make = make,
  };
  return type;
}

}  // namespace lacake
