#include "policies/tova/tova.h"

#include <algorithm>

#include "policies/ranked.h"
#include "policies/settings.h"

namespace lacake {
namespace {

class Tova final : public RankedPolicy {
 public:
  using RankedPolicy::RankedPolicy;

  Measures measures(Phase phase, int layer, std::size_t, std::size_t n_new) const override {
    if (!cuts(phase, layer, n_new)) return {};
    return {.window = 1, .group_mean = true};
  }

 protected:
  // One list for all heads: the mean of the KV heads' means.
  void score(const Observation& seen, std::size_t, std::span<float> scores) override {
    if (seen.window == 0) return;
    const auto n_head_kv = static_cast<std::size_t>(shape().n_head_kv);
    std::copy_n(seen.window_mean.begin(), scores.size(), scores.begin());
    for (std::size_t head = 1; head < n_head_kv; ++head) {
      const auto column = seen.window_mean.subspan(head * seen.n_entries, scores.size());
      for (std::size_t i = 0; i < scores.size(); ++i) scores[i] += column[i];
    }
  }
};

std::size_t min_cache_size(const PolicySettings&, const AttentionShape&) { return 2; }

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  require_least(tova_policy(), given, shape, cache_size);
  RankedPolicy::Options options{.cache_size = cache_size, .window = 1, .per_head = false};
  read_shared(tova_policy(), given, options);
  return std::make_unique<Tova>(options, shape);
}

}  // namespace

const PolicyType& tova_policy() {
  static const PolicyType type = {
      .name = "tova",
      .summary = "what the last query attended to, the same entries in every head",
      .paper = "TOVA: Transformers are Multi-State RNNs (EMNLP 2024), arXiv 2401.06104",
      .parameters = {at_once_parameter(), positions_parameter()},
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
