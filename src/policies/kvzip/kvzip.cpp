#include "policies/kvzip/kvzip.h"

#include <algorithm>
#include <limits>

#include "lacake/error.h"
#include "policies/parameters.h"
#include "policies/ranked.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace kvzip {
namespace {

// Of entries that nobody repeated: those that stay, above every score, and those that go first, the oldest before the
// others. What was repeated has a score between the two.
constexpr float kHeld = std::numeric_limits<float>::max() / 2;
constexpr float kLeft = -1;

struct Settings {
  bool of_output = false;
  bool keeps_prefix = true;
  double recent = 0;
  std::size_t spare = 0;
};

class KvZip final : public RankedPolicy {
 public:
  KvZip(const Options& options, const AttentionShape& shape, const Settings& settings)
      : RankedPolicy(options, shape), settings_(settings) {}

  std::unique_ptr<Policy> clone() const override { return std::make_unique<KvZip>(*this); }

  Measures measures(Phase phase, int layer, std::size_t, std::size_t n_new) const override {
    if (phase == Phase::kDecode || !cuts(phase, layer, n_new)) return {};
    return {.value_norm = settings_.of_output ? ValueNorm::kOutput : ValueNorm::kNone,
            .repeat = settings_.of_output ? RepeatScore::kPeakOfOutput : RepeatScore::kPeak,
            .repeat_sinks = options().sinks};
  }

 protected:
  std::size_t score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    const std::span<float> fresh = scores.last(seen.n_new);
    if (seen.repeat_peak.empty()) {
      std::fill(fresh.begin(), fresh.end(), kLeft);
    } else {
      const std::span<const float> peaks = list_columns(seen.repeat_peak, list);
      std::copy_n(peaks.begin() + (std::ptrdiff_t)(scores.size() - fresh.size()), fresh.size(), fresh.begin());
    }
    if (seen.phase == Phase::kDecode && !overflows(seen.layer, list)) return kNothingSeen;
    hold(scores);
    return n_behind(scores);
  }

  void score_again(int, std::size_t, std::span<float> scores) const override { hold(scores); }

  std::size_t shared(std::size_t n_lists) const override {
    const std::size_t whole = RankedPolicy::shared(n_lists);
    return std::max(whole - std::min(whole, settings_.spare), n_lists * (options().sinks + options().window));
  }

 private:
  static bool is_scored(float score) { return score >= 0 && score < kHeld; }

  // Entries behind the last one that was repeated: of all, where none was.
  static std::size_t n_behind(std::span<const float> scores) {
    return (std::size_t)(std::find_if(scores.rbegin(), scores.rend(), is_scored) - scores.rbegin());
  }

  // What comes before everything that was repeated, a template's prefix, stays as long as it is short. What came after
  // it, a question and an answer, stays as long as it is new.
  void hold(std::span<float> scores) const {
    for (float& score : scores) {
      if (!is_scored(score)) score = kLeft;
    }
    const std::size_t behind = n_behind(scores), size = options().cache_size;
    const auto recent = (std::size_t)(settings_.recent * (double)size);
    std::fill_n(scores.rbegin(), std::min(behind, recent), kHeld);
    if (behind == scores.size() || !settings_.keeps_prefix) return;
    const auto prefix = (std::size_t)(std::find_if(scores.begin(), scores.end(), is_scored) - scores.begin());
    std::fill_n(scores.begin(), std::min(prefix, size / 4), kHeld);
  }

  Settings settings_;
};

}  // namespace
}  // namespace kvzip

namespace {

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = kvzip_policy();
  RankedPolicy::Options options = ranked_options(type, given, shape, cache_size);
  options.repeat_chunk = size_setting(type, given, "chunk");
  const std::size_t spare = size_setting(type, given, "spare");
  if (spare > 0 && options.sharing == RankedPolicy::Options::Sharing::kEven) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = policy_subject(type.name),
                 .expected = "heads=joint or heads=adaptive with spare",
                 .found = "heads=even"});
  }
  const kvzip::Settings settings{.of_output = has_word(type, given, "plus", "on"),
                                 .keeps_prefix = has_word(type, given, "prefix", "keep"),
                                 .recent = number_setting(type, given, "recent"),
                                 .spare = spare};
  return std::make_unique<kvzip::KvZip>(options, shape, settings);
}

std::vector<PolicyParameter> parameters() {
  using Kind = PolicyParameter::Kind;
  return with_head_parameters(
      {{.name = "plus",
        .kind = Kind::kWord,
        .default_value = "off",
        .words = {"off", "on"},
        .help = "on: what was looked at counts by what its value adds to the output (KVzip+)"},
       {.name = "chunk",
        .kind = Kind::kWholeNumber,
        .default_value = 2000,
        .min = 16,
        .max = 1e6,
        .help = "tokens of a text that the model repeats at a time"},
       sinks_parameter(),
       window_parameter(4, 0, 4096),
       {.name = "prefix",
        .kind = Kind::kWord,
        .default_value = "keep",
        .words = {"keep", "drop"},
        .help = "what stands before the first text that was repeated: it stays, a quarter of C at most, or goes first"},
       {.name = "recent",
        .default_value = 0.5,
        .min = 0,
        .max = 0.75,
        .help = "share of C for the newest entries that came after what was repeated: a question, an answer"},
       {.name = "spare",
        .kind = Kind::kWholeNumber,
        .min = 0,
        .max = 1e6,
        .help = "where heads share, entries of single heads that are left free: the authors' code rounds otherwise"},
       evict_fraction_parameter(0)},
      {.heads = "joint"});  // its scores are meant to be compared across all heads
}

}  // namespace

const PolicyType& kvzip_policy() {
  static const PolicyType type = {
      .name = "kvzip",
      .summary =
          "what the model attends to most when it repeats the text: a second reading, for questions not known yet",
      .paper =
          "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction (NeurIPS 2025), arXiv 2505.23416",
      .parameters = parameters(),
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = ranked_min_cache_size<kvzip_policy>,
      .make = make,
  };
  return type;
}

}  // namespace lacake
