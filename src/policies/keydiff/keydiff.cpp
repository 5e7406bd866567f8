#include "policies/keydiff/keydiff.h"

#include <utility>

#include "policies/ranked.h"
#include "policies/settings.h"

namespace lacake {
namespace {

class KeyDiff final : public RankedPolicy {
 public:
  using RankedPolicy::RankedPolicy;

  Measures measures(Phase phase, int layer, std::size_t, std::size_t n_new) const override {
    return {.key_similarity = cuts(phase, layer, n_new)};
  }

 protected:
  void score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    if (seen.key_similarity.empty()) return;
    const std::span<const float> similarity = list_columns(seen.key_similarity, list);
    for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = -similarity[i];
  }
};

std::size_t min_cache_size(const PolicySettings& given, const AttentionShape&) {
  return size_setting(keydiff_policy(), given, "window") + 1;
}

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = keydiff_policy();
  require_least(type, given, shape, cache_size);
  RankedPolicy::Options options{.cache_size = cache_size, .window = size_setting(type, given, "window")};
  read_shared(type, given, options);
  return std::make_unique<KeyDiff>(options, shape);
}

std::vector<PolicyParameter> parameters() {
  return with_head_parameters({{.name = "window",
                                .default_value = 1,
                                .min = 1,
                                .max = 65536,
                                .integer = true,
                                .help = "last entries that always stay"},
                               at_once_parameter(1.0 / 8),
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
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
