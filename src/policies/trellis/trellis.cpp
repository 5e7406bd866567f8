#include "policies/trellis/trellis.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "policies/layer_budgets.h"
#include "policies/ranked.h"
#include "policies/score.h"
#include "policies/trellis/memory.h"
#include "policies/trellis/settings.h"

namespace lacake {
namespace trellis {
namespace {

// Of an entry that a rung or the recent share keeps: above every indicator, below what adaptive heads are sure of.
constexpr float kHeld = std::numeric_limits<float>::max() / 2;

// Last queries whose attention is part of a text's worth.
constexpr int kDefenceRows = 32;

// Worth of a template's words: above that of everything that was repeated.
constexpr float kOfTemplate = std::numeric_limits<float>::max() / 8;

// Entries for which one query of an answer is skipped.
constexpr std::size_t kEntriesPerLook = 1024;

// The share of values below each.
std::vector<float> percentiles(std::span<const float> values) {
  std::vector<std::uint32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return values[a] != values[b] ? values[a] < values[b] : a < b; });
  std::vector<float> result(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    result[order[i]] = (float)i / (float)values.size();
  }
  return result;
}

class Trellis final : public RankedPolicy {
 public:
  Trellis(const Options& options, const AttentionShape& shape, const Settings& settings)
      : RankedPolicy(options, shape),
        settings_(settings),
        memory_((std::size_t)shape.n_layer, std::vector<Memory>((std::size_t)shape.n_head_kv)),
        preferences_(memory_.size()) {}

  std::unique_ptr<Policy> clone() const override { return std::make_unique<Trellis>(*this); }

  // In an answer also while all fits: what is remembered is of all queries.
  Measures measures(Phase phase, int layer, std::size_t, std::size_t n_new) const override {
    if (phase == Phase::kPrefill) {
      Measures asked{.learned = settings_.learned};  // always: what was not asked when a token came is never said again
      if (!cuts(phase, layer, n_new)) return asked;
      asked.window = (int)(rows() > 1 ? rows() : settled() ? 1 : std::max<std::size_t>(settings_.preference, 1));
      asked.last_row = rows() == 1 && asked.window > 1;
      return asked;
    }
    return n_fed() % every() == 0 ? Measures{.window = 1, .group_mean = true} : Measures{};
  }

  Measures measures_before_question(int layer, std::size_t n_entries, std::size_t n_new) const override {
    if (!options().changes_sharing) return measures(Phase::kPrefill, layer, n_entries, n_new);
    return cuts(Phase::kPrefill, layer, n_new) ? worth_measures() : Measures{.learned = settings_.learned};
  }

  void visit(PolicyFields& state) override {
    if (settings_.learned) {
      // Scores of another calibration mean something else.
      std::int64_t calibration = shape().calibration;
      state.number("calibration", calibration, calibration, calibration);
    }
    RankedPolicy::visit(state);
    preferences_.visit(state);
    state.number("n_prompt", n_prompt_, 0, INT32_MAX);
    for (int layer = 0; layer < shape().n_layer; ++layer) {
      for (int head = 0; head < shape().n_head_kv; ++head) {
        memory_[(std::size_t)layer][(std::size_t)head].visit(state, state.n_entries(layer, head));
      }
    }
  }

  std::size_t metadata_bytes() const override {
    std::size_t bytes = RankedPolicy::metadata_bytes() + preferences_.bytes();
    for (const std::vector<Memory>& layer : memory_) {
      for (const Memory& list : layer) {
        bytes += sizeof(Memory) + std::max(list.bytes(), (options().cache_size + 1) * Memory::kEntryBytes);
      }
    }
    return bytes;
  }

 protected:
  std::size_t score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    Memory& memory = memory_[(std::size_t)seen.layer][list];
    memory.grow(seen.n_new, seen.n_past);
    if (seen.phase == Phase::kPrefill) {
      n_prompt_ = (std::size_t)seen.n_past + seen.n_new;
      if (!seen.learned.empty()) memory.set_newest_worth(list_columns(seen.learned, list));
      if (seen.more_follows && options().changes_sharing) return before_question(seen, list, memory, scores);
      if (settled()) share(Options::Sharing::kSettled);
      if (seen.window > 0 && list == 0) {
        const std::size_t n_scored = seen.n_entries - (std::size_t)seen.window;
        preferences_.see((std::size_t)seen.layer, preference(seen, n_scored, 1, 1));
      }
      if (seen.window > 0) see_prompt(seen, list, memory);
      rate(memory, scores);
      return 0;
    }
    if (seen.window > 0) memory.see_row(list_columns(seen.window_mean, list), fade_share(every()));
    // At nearly every token of an answer what is remembered is enough: nothing has to go.
    if (!overflows(seen.layer, list)) return 0;
    rate(memory, scores);
    hold(seen.layer, (std::size_t)seen.n_past + seen.n_new, seen.n_new, memory, scores);
    return 0;
  }

  void score_again(int layer, std::size_t list, std::span<float> scores) const override {
    const Memory& memory = memory_[(std::size_t)layer][list];
    rate(memory, scores);
    if (n_fed() > n_prompt_) hold(layer, n_fed(), 0, memory, scores);
  }

  std::vector<std::size_t> divide(int layer) override {
    if (settings_.preference == 0) return {};
    const std::size_t n_layer = memory_.size(), n_protected = options().sinks + options().window;
    std::size_t total = (options().cache_size - n_protected) * n_layer;
    std::vector<float> preferences;
    std::vector<std::size_t> caps;
    for (std::size_t i = 0; i < n_layer; ++i) {
      const std::size_t beside = held(i) - std::min(held(i), n_protected);
      // Before any prompt was measured all preferences are alike.
      if (i < preferences_.n_known() || preferences_.n_known() == 0) {
        preferences.push_back(preferences_.now(i));
        caps.push_back(beside);
      } else {
        total -= beside;  // never scored: what it has waits for its turn, in this segment
      }
    }
    std::vector<std::size_t> sizes = divide_whole(preferences, total, caps);
    if ((std::size_t)layer + 1 == n_layer) spread_lost(sizes, total);
    for (std::size_t& size : sizes) size += n_protected;
    return sizes;
  }

  void kept(int layer, std::size_t list, std::span<const std::uint32_t> entries) override {
    memory_[(std::size_t)layer][list].keep(entries);
  }
  void dropped(int layer, std::size_t list, std::uint32_t entry) override {
    memory_[(std::size_t)layer][list].drop(entry);
  }

 private:
  // A text was read before its question: which layers and heads hold how much of it stays as it was decided then.
  bool settled() const { return options().changes_sharing && options().is_joint(); }

  // Of the prompt at hand.
  std::size_t rows() const { return settled() ? settings_.rows_behind : settings_.rows; }

  Measures worth_measures() const {
    Measures asked{.key_similarity = !settings_.learned, .learned = settings_.learned};
    if (options().repeat_chunk > 0) {
      asked.repeat = RepeatScore::kPeak;
      asked.repeat_sinks = options().sinks;
    } else if (settings_.defence > 0) {
      asked.window = kDefenceRows;
      asked.window_peak = true;
      asked.window_mean = false;
    }
    if (settings_.length > 0 || options().repeat_chunk > 0) {
      asked.value_norm = ValueNorm::kOutput;
      asked.group_mean = true;
    }
    return asked;
  }

  std::size_t before_question(const Observation& seen, std::size_t list, Memory& memory, std::span<float> scores) {
    if (!cuts(Phase::kPrefill, seen.layer, seen.n_new)) return kNothingSeen;
    share(Options::Sharing::kJoint);
    if (settings_.learned) {
      known_worth(memory, scores);
      add_weights(seen, list, scores);
    } else {
      if (seen.repeat_peak.empty()) {
        judge(seen, list, scores);
      } else {
        judge_by_repeat(seen, list, scores);
      }
      memory.set_worth(scores);
    }
    hold_regions(seen, list, memory, scores);
    return 0;
  }

  // A joint choice may leave a stretch of the text to nobody. The best entry of each of a head's regions stays; their
  // bounds shift from head to head and from layer to layer, so that together they are finer than each.
  void hold_regions(const Observation& seen, std::size_t list, const Memory& memory, std::span<float> scores) const {
    const auto n_lists = (double)shape().n_head_kv, n_all = (double)shape().n_layer * n_lists;
    const auto n =
        (std::size_t)(settings_.regions * (double)(options().cache_size - options().sinks - options().window));
    const double shift = ((double)seen.layer * n_lists + (double)list) / n_all;
    for (const std::uint32_t rung : rungs(memory.tokens(), scores, (std::size_t)seen.n_past + seen.n_new, n, shift)) {
      scores[rung] = kHeld;
    }
  }

  // What is known of entries; of those that an answer wrote nothing is, so that they are like the others on average.
  static void known_worth(const Memory& memory, std::span<float> scores) {
    double sum = 0;
    std::size_t n = 0;
    for (const float worth : memory.worth()) {
      if (worth == Memory::kNoWorth) continue;
      sum += worth;
      ++n;
    }
    const auto mean = n > 0 ? (float)(sum / (double)n) : 0.0f;
    std::ranges::replace_copy(memory.worth(), scores.begin(), Memory::kNoWorth, mean);
  }

  // By what no second reading is needed for.
  void judge(const Observation& seen, std::size_t list, std::span<float> scores) const {
    const std::span<const float> similarity = list_columns(seen.key_similarity, list);
    for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = -similarity[i];
    add_weights(seen, list, scores);
  }

  void add_weights(const Observation& seen, std::size_t list, std::span<float> scores) const {
    if (!seen.window_peak.empty()) {
      const std::span<const float> peak = list_columns(seen.window_peak, list);
      double sum = 0;
      for (std::size_t i = 0; i < scores.size(); ++i) sum += peak[i];
      const float mean = (float)(sum / (double)scores.size()) + 1e-9f;
      for (std::size_t i = 0; i < scores.size(); ++i) {
        scores[i] += settings_.defence * std::log10(std::max(peak[i], mean));
      }
    }
    if (!seen.value_norm.empty()) {
      const std::span<const float> norm = list_columns(seen.value_norm, list);
      for (std::size_t i = 0; i < scores.size(); ++i) scores[i] += settings_.length * std::log10(norm[i] + 1e-6f);
    }
  }

  // By what the model looked at when it repeated the text (KVzip+). What is new and was not repeated are a template's
  // words, which stay if they are few.
  void judge_by_repeat(const Observation& seen, std::size_t list, std::span<float> scores) const {
    const std::span<const float> peak = list_columns(seen.repeat_peak, list);
    const std::span<const float> before = memory_[(std::size_t)seen.layer][list].worth();
    const std::span<const float> norm = list_columns(seen.value_norm, list);
    const std::size_t n_old = scores.size() - seen.n_new;
    const auto fresh = peak.subspan(n_old, seen.n_new);
    const auto n_words = (std::size_t)std::count_if(fresh.begin(), fresh.end(), [](float p) { return p < 0; });
    const float of_words = n_words <= options().cache_size / 4 ? kOfTemplate : 0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      scores[i] = peak[i] >= 0 ? peak[i] * norm[i] : i < n_old ? before[i] : of_words;
    }
  }

  // What is remembered of queries; where entries have a worth too, ranks of both.
  void rate(const Memory& memory, std::span<float> scores) const {
    memory.indicators(settings_.spread, scores);
    if (!settled()) return;
    const std::vector<float> attended = percentiles(scores), worth = percentiles(memory.worth());
    for (std::size_t i = 0; i < scores.size(); ++i) {
      scores[i] = attended[i] + settings_.worth * (memory.worth()[i] == Memory::kNoWorth ? 0.5f : worth[i]);
    }
  }

  // One query in so many is looked at. Where the user leaves it open it follows C, so that looking, whose cost grows
  // with C, stays the same share of a token.
  std::size_t every() const {
    return settings_.every > 0 ? settings_.every : (options().cache_size + kEntriesPerLook - 1) / kEntriesPerLook;
  }

  float fade_share(std::size_t n_tokens) const { return (float)(1 - std::exp(-(double)n_tokens / settings_.memory)); }

  // Of the heads that share a list the one that wants an entry most has its way: retrieval is the work of a few heads.
  void see_prompt(const Observation& seen, std::size_t list, Memory& memory) {
    const bool one_row = rows() == 1 || seen.window == 1;
    const std::span<const float> mean = list_columns(seen.last_row.empty() ? seen.window_mean : seen.last_row, list);
    const std::span<const float> variance =
        one_row ? std::span<const float>{} : list_columns(seen.window_variance, list);
    const std::size_t n = memory.size() - std::min(memory.size(), options().window);
    std::vector<float> most(n, 0.0f), one(n), pooled(n);
    for (std::size_t row = 0; row < mean.size(); row += seen.n_entries) {
      for (std::size_t i = 0; i < n; ++i) {
        one[i] = mean[row + i] + (variance.empty() ? 0.0f : settings_.gamma * variance[row + i]);
      }
      pool(one, pooled);
      for (std::size_t i = 0; i < n; ++i) most[i] = std::max(most[i], pooled[i]);
    }
    // What is found is read on: the query that wants a name's first token comes before the one that wants its second.
    read_on(memory.tokens().first(n), settings_.onward, most);
    memory.see_prompt(most, 1 - fade_share(seen.n_new));
  }

  // In an answer the rungs of this layer's ladder and the newest stay whatever their indicators: shares of what the
  // layer holds. Of a prompt's entries none is among the newest.
  //   n_tokens  of the conversation, `n_new` of them not part of the layer's share yet
  void hold(int layer, std::size_t n_tokens, std::size_t n_new, const Memory& memory, std::span<float> scores) const {
    const auto part = [&](double share) { return (std::size_t)(share * (double)(scores.size() - n_new)); };
    const double shift = (double)layer / (double)shape().n_layer;
    for (const std::uint32_t rung : rungs(memory.tokens(), scores, n_tokens, part(settings_.ladder), shift)) {
      scores[rung] = kHeld;
    }
    const std::size_t recent = std::min(part(settings_.recent), n_tokens - n_prompt_);
    std::fill(scores.end() - (std::ptrdiff_t)recent, scores.end(), kHeld);
  }

  Settings settings_;
  std::vector<std::vector<Memory>> memory_;  // [n_layer][n_head_kv]
  Preferences preferences_;
  std::size_t n_prompt_ = 0;  // tokens of the conversation up to the answer
};

}  // namespace
}  // namespace trellis

namespace {

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  RankedPolicy::Options options = ranked_options(trellis_policy(), given, shape, cache_size);
  const trellis::Settings settings = trellis::read_settings(given, shape, options);
  return std::make_unique<trellis::Trellis>(options, shape, settings);
}

}  // namespace

const PolicyType& trellis_policy() {
  static const PolicyType type = {
      .name = "trellis",
      .summary =
          "what a prompt's last queries attended to and what follows it, what an answer's did; layers share by "
          "preference",
      .paper = "",
      .parameters = trellis::parameters(),
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = ranked_min_cache_size<trellis_policy>,
      .make = make,
      .settings_at_opening = trellis::settings_at_opening,
  };
  return type;
}

}  // namespace lacake
