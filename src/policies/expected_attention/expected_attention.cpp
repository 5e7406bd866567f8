#include "policies/expected_attention/expected_attention.h"

#include <utility>

#include "policies/answer_entries.h"
#include "policies/parameters.h"
#include "policies/ranked.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace {

class ExpectedAttention final : public RankedPolicy {
 public:
  struct Settings {
    std::size_t future = 0;
    std::size_t sinks = 0;
    float epsilon = 0;
    double recent = 0;
  };

  ExpectedAttention(const Options& options, const AttentionShape& shape, const Settings& settings)
      : RankedPolicy(options, shape), settings_(settings) {}

  Measures measures(Phase phase, int layer, std::size_t, std::size_t n_new) const override {
    if (phase == Phase::kDecode || !cuts(phase, layer, n_new)) return {};
    return {.value_norm = ValueNorm::kPlain,
            .expected_positions = (int)settings_.future,
            .expected_sinks = (int)settings_.sinks};
  }

  std::unique_ptr<Policy> clone() const override { return std::make_unique<ExpectedAttention>(*this); }

 protected:
  std::size_t score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    if (seen.phase == Phase::kDecode) {
      const auto n_newest = (std::size_t)(settings_.recent * (double)scores.size());
      score_answer(scores, n_newest, overflows(seen.layer, list));
      return 0;
    }
    if (seen.expected.empty()) return kNothingSeen;
    const std::span<const float> expected = list_columns(seen.expected, list);
    const std::span<const float> norm = list_columns(seen.value_norm, list);
    for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = (expected[i] + settings_.epsilon) * norm[i];
    return 0;
  }

 private:
  Settings settings_;
};

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = expected_attention_policy();
  return std::make_unique<ExpectedAttention>(
      ranked_options(type, given, shape, cache_size), shape,
      ExpectedAttention::Settings{.future = size_setting(type, given, "future"),
                                  .sinks = size_setting(type, given, "sinks"),
                                  .epsilon = (float)number_setting(type, given, "epsilon"),
                                  .recent = number_setting(type, given, "recent")});
}

std::vector<PolicyParameter> parameters() {
  return with_head_parameters({{.name = "future",
                                .kind = PolicyParameter::Kind::kWholeNumber,
                                .default_value = 512,
                                .min = 1,
                                .max = 65536,
                                .help = "positions to come whose queries are expected"},
                               {.name = "epsilon",
                                .default_value = 0,
                                .min = 0,
                                .max = 1,
                                .help = "added to each entry's expected attention, so that long values count more"},
                               sinks_parameter(),
                               window_parameter(1, 0),
                               recent_parameter(),
                               evict_fraction_parameter(),
                               positions_parameter()});
}

}  // namespace

const PolicyType& expected_attention_policy() {
  static const PolicyType type = {
      .name = "expected-attention",
      .summary = "what queries to come would attend to, if they are as the prompt's, times the length of the value",
      .paper =
          "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution (2025), "
          "arXiv 2510.00636",
      .parameters = parameters(),
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = ranked_min_cache_size<expected_attention_policy>,
      .make = make,
  };
  return type;
}

}  // namespace lacake
