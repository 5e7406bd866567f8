#include "policies/tova/tova.h"

#include <algorithm>

#include "policies/ranked.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace {

class Tova final : public RankedPolicy {
 public:
  using RankedPolicy::RankedPolicy;

  Measures measures(Phase phase, int layer, std::size_t, std::size_t n_new) const override {
    if (!cuts(phase, layer, n_new)) return {};
    return {.window = 1, .group_mean = true};
  }

  std::unique_ptr<Policy> clone() const override { return std::make_unique<Tova>(*this); }

 protected:
  // One list for all heads: the mean of the KV heads' means.
  std::size_t score(const Observation& seen, std::size_t, std::span<float> scores) override {
    if (seen.window == 0) return kNothingSeen;
    const auto n_head_kv = (std::size_t)shape().n_head_kv;
    std::copy_n(seen.window_mean.begin(), scores.size(), scores.begin());
    for (std::size_t head = 1; head < n_head_kv; ++head) {
      const auto column = seen.window_mean.subspan(head * seen.n_entries, scores.size());
      for (std::size_t i = 0; i < scores.size(); ++i) scores[i] += column[i];
    }
    return 0;
  }
};

std::size_t min_cache_size(const PolicySettings&, const AttentionShape&) { return 2; }

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  RankedPolicy::Options options = ranked_options(tova_policy(), given, shape, cache_size);
  options.window = 1;
  options.per_head = false;
  return std::make_unique<Tova>(options, shape);
}

}  // namespace

const PolicyType& tova_policy() {
  static const PolicyType type = {
      .name = "tova",
      .summary = "what the last query attended to, the same entries in every head",
      .paper = "TOVA: Transformers are Multi-State RNNs (EMNLP 2024), arXiv 2401.06104",
      .parameters = {evict_fraction_parameter(), positions_parameter()},
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
