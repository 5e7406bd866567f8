#include "policies/layer_defensive/layer_defensive.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "policies/answer_entries.h"
#include "policies/layer_defensive/defence.h"
#include "policies/parameters.h"
#include "policies/ranked.h"
#include "policies/release_excess.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace {

struct Settings {
  std::size_t window = 0;
  double forced = 0;
  ValueNorm norm = ValueNorm::kOutputSum;
  bool of_token = true;  // a value weighs what it has of the norms of all heads at its token, else of those of its head
  bool guards = true;
  float decay = 0;
  double recent = 0;
};

class LayerDefensive final : public RankedPolicy {
 public:
  LayerDefensive(const Options& options, const AttentionShape& shape, const Settings& settings)
      : RankedPolicy(options, shape),
        settings_(settings),
        weights_((std::size_t)shape.n_layer, Lists((std::size_t)shape.n_head_kv)) {}

  std::unique_ptr<Policy> clone() const override { return std::make_unique<LayerDefensive>(*this); }

  Measures measures(Phase phase, int layer, std::size_t, std::size_t n_new) const override {
    if (phase == Phase::kDecode || !cuts(phase, layer, n_new)) return {};
    return {.window = (int)settings_.window, .group_mean = true, .window_peak = true, .value_norm = settings_.norm};
  }

  void visit(PolicyFields& state) override {
    RankedPolicy::visit(state);
    state.number("n_cut", n_cut_, 0, INT32_MAX);
    for (int layer = 0; layer < shape().n_layer; ++layer) {
      for (int head = 0; head < shape().n_head_kv; ++head) {
        state.reals("weights", weights_[(std::size_t)layer][(std::size_t)head], state.n_entries(layer, head), 0);
      }
    }
  }

  std::size_t metadata_bytes() const override {
    std::size_t bytes = RankedPolicy::metadata_bytes();
    for (const Lists& lists : weights_) {
      for (const std::vector<float>& list : lists) {
        bytes += sizeof(list) + std::max(list.capacity(), options().cache_size + 1) * sizeof(float);
      }
    }
    return bytes;
  }

 protected:
  std::size_t score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    Lists& weights = weights_[(std::size_t)seen.layer];
    // Nothing is known of a value that was not measured: an even part.
    weights[list].resize(scores.size(), 1 / (float)shape().n_head_kv);
    if (seen.phase == Phase::kDecode) {
      const auto n_newest = (std::size_t)(settings_.recent * (double)scores.size());
      score_answer(scores, n_newest, overflows(seen.layer, list));
      return 0;
    }
    if (seen.window == 0) return kNothingSeen;
    // What is forced in one head has the largest score of all of them, so the first call looks at all.
    if (list == 0) {
      for (std::size_t i = 0; i < weights.size(); ++i) {
        weights[i].resize(held_in(seen.layer, i), 1 / (float)shape().n_head_kv);
      }
      weigh(seen, weights);
      score_layer(seen, weights);
    }
    const std::size_t n_outside = outside(seen);
    const std::vector<float>& found = scored_.lists[list];
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const bool known = found[i] < scored_.best && !is_of_answer(scores[i]);
      scores[i] = known ? std::max(found[i], settings_.decay * scores[i]) : found[i];
    }
    // Where windows are protected by other means, they have no score that a later turn could take for one.
    if (!settings_.guards) return 0;
    std::fill(scores.end() - (std::ptrdiff_t)std::min(n_outside, scores.size()), scores.end(), 0.0f);
    return n_outside;
  }

  void kept(int layer, std::size_t list, std::span<const std::uint32_t> entries) override {
    std::vector<float>& weights = weights_[(std::size_t)layer][list];
    for (std::size_t i = 0; i < entries.size(); ++i) weights[i] = weights[entries[i]];
    weights.resize(entries.size());
    release_excess(weights);
  }
  void dropped(int layer, std::size_t list, std::uint32_t entry) override {
    std::vector<float>& weights = weights_[(std::size_t)layer][list];
    weights.erase(weights.begin() + (std::ptrdiff_t)entry);
  }

  // The authors round the product down.
  std::size_t shared(std::size_t n_lists) const override {
    const std::size_t whole = RankedPolicy::shared(n_lists);
    if (settings_.guards || n_cut_ <= options().cache_size) return whole;
    const double share = defence::kept_share(options().cache_size, n_cut_);
    return std::min(whole, (std::size_t)((double)n_cut_ * share * (double)n_lists));
  }

 private:
  using Lists = std::vector<std::vector<float>>;  // [n_head_kv][entries]

  // Entries of the window at the end of a list: a probe's are none.
  static std::size_t outside(const Observation& seen) { return seen.n_probe > 0 ? 0 : (std::size_t)seen.window; }

  // What the values of the segment weigh; those before it keep what they had. As long as nothing was ever dropped, all
  // of them, since some may have come unmeasured.
  void weigh(const Observation& seen, Lists& weights) const {
    const std::size_t n_lists = weights.size(), n_fed = (std::size_t)seen.n_past + seen.n_new;
    const bool whole = std::all_of(weights.begin(), weights.end(), [&](const auto& w) { return w.size() == n_fed; });
    const std::size_t n = whole ? n_fed : seen.n_new;
    std::vector<float> norms(n_lists);
    for (std::size_t i = 0; i < n; ++i) {  // from the end
      for (std::size_t k = 0; k < n_lists; ++k) {
        norms[k] = list_columns(seen.value_norm, k)[weights[k].size() - 1 - i];
      }
      for (std::size_t k = 0; k < n_lists && settings_.of_token; ++k) {
        weights[k][weights[k].size() - 1 - i] = defence::part(norms, k);
      }
    }
    for (std::size_t k = 0; k < n_lists && !settings_.of_token; ++k) {
      const std::span<const float> own = list_columns(seen.value_norm, k).first(weights[k].size());
      const double sum = std::accumulate(own.begin(), own.end(), 0.0);
      for (std::size_t i = weights[k].size() - n; i < weights[k].size(); ++i) {
        weights[k][i] = sum > 0 ? (float)(own[i] / sum) : 0;
      }
    }
  }

  void score_layer(const Observation& seen, const Lists& weights) {
    n_cut_ = (std::size_t)seen.n_past + seen.n_new;
    std::vector<defence::List> lists;
    for (std::size_t k = 0; k < weights.size(); ++k) {
      const std::size_t n = weights[k].size() - std::min(weights[k].size(), outside(seen));
      lists.push_back({.attention = list_columns(seen.window_mean, k).first(n),
                       .peaks = list_columns(seen.window_peak, k).first(n),
                       .weights = std::span(weights[k]).first(n),
                       .n_entries = weights[k].size()});
    }
    scored_ = defence::score_layer(lists, {.window = settings_.window,
                                           .forced = settings_.forced,
                                           .cache_size = options().cache_size,
                                           .guards = settings_.guards});
  }

  Settings settings_;
  std::vector<Lists> weights_;  // [n_layer]
  std::size_t n_cut_ = 0;       // tokens of the conversation when a segment was last scored
  defence::Scored scored_;      // the layer at hand
};

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = layer_defensive_policy();
  RankedPolicy::Options options = ranked_options(type, given, shape, cache_size);
  const Settings settings{
      .window = options.window,
      .forced = number_setting(type, given, "forced"),
      .norm = has_word(type, given, "norm", "sum") ? ValueNorm::kOutputSum : ValueNorm::kOutput,
      .of_token = has_word(type, given, "weight", "token"),
      .guards = has_word(type, given, "guards", "on"),
      .decay = (float)number_setting(type, given, "decay"),
      .recent = number_setting(type, given, "recent"),
  };
  if (!settings.guards) options.sinks = options.window = 0;
  return std::make_unique<LayerDefensive>(options, shape, settings);
}

std::vector<PolicyParameter> parameters() {
  using Kind = PolicyParameter::Kind;
  return with_head_parameters(
      {{.name = "window",
        .kind = Kind::kWholeNumber,
        .default_value = 32,
        .min = 1,
        .max = 4096,
        .help = "last queries that are observed, and last entries that always stay"},
       sinks_parameter(),
       {.name = "forced",
        .default_value = 0.9,
        .min = 0,
        .max = 1,
        .help = "share of the window's mean attention whose entries stay whatever their score; 0: none"},
       {.name = "norm",
        .kind = Kind::kWord,
        .default_value = "sum",
        .words = {"sum", "length"},
        .help =
            "of a value after the output projection: sum of absolute values, or length, which costs a tenth (ours)"},
       {.name = "weight",
        .kind = Kind::kWord,
        .default_value = "token",
        .words = {"token", "entries"},
        .help = "a value's norm counts as a part of those of all KV heads at its token (the authors' code), or of all "
                "entries of its head (their paper)"},
       {.name = "guards",
        .kind = Kind::kWord,
        .default_value = "on",
        .words = {"on", "off"},
        .help = "off: as the authors' code, window and sinks can be lost, and a short prompt forces nearly everything"},
       {.name = "decay",
        .default_value = 0.9,
        .min = 0,
        .max = 1,
        .help = "of old scores at every further turn or chunk (ours)"},
       recent_parameter(),
       evict_fraction_parameter()},
      {.heads = "joint", .floor = 0});
}

}  // namespace

const PolicyType& layer_defensive_policy() {
  static const PolicyType type = {
      .name = "layer-defensive",
      .summary =
          "the most that any query of the window saw, never below the mean, times what the value adds; all layers "
          "share",
      .paper =
          "DefensiveKV and Layer-DefensiveKV: Taming the Fragility of KV Cache Eviction in LLM Inference (ICLR 2026), "
          "arXiv 2510.13334",
      .parameters = parameters(),
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = ranked_min_cache_size<layer_defensive_policy>,
      .make = make,
  };
  return type;
}

}  // namespace lacake
