#pragma once

// A cache without a model: it holds token positions where the real one holds keys and values, and drives a policy
// through the public interface. Broken promises of a policy (an index out of range, a list that is not what its traits
// declare) are std::logic_error, so that every test which drives a policy checks them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "attention/measure.h"
#include "lacake/policy_author.h"

namespace lacake::simulation {

// Probabilities of the last `n_rows` queries of a segment over the layer's entries: [n_entries, n_rows, n_head].
using AttentionSource = std::function<std::vector<float>(int layer, std::size_t n_entries, std::size_t n_rows)>;

using PositionList = std::vector<std::int64_t>;

// RoPE index of a segment's first query in a layer that keeps `n_kept` entries.
inline std::int64_t query_position(const Policy& policy, int layer, std::size_t n_kept) {
  const Measures asked = policy.measures(Phase::kDecode, layer, n_kept + 1, 1);
  return (std::int64_t)n_kept + asked.query_shift;
}

class SimulatedCache final : public CacheEdits {
 public:
  SimulatedCache(const AttentionShape& shape, const PolicyTraits& traits)
      : shape_(shape),
        traits_(traits),
        layers_((std::size_t)shape.n_layer, Heads((std::size_t)shape.n_head_kv)),
        pending_(layers_.size()) {}

  // Positions in stored order.
  const PositionList& held(int layer, int head = 0) const { return layers_.at(at(layer)).at(at(head)); }
  void set_held(int layer, int head, PositionList positions) {
    layers_.at(at(layer)).at(at(head)) = std::move(positions);
  }

  // The longest head's.
  std::size_t length(int layer) const {
    std::size_t longest = 0;
    for (const PositionList& head : layers_.at(at(layer))) longest = std::max(longest, head.size());
    return longest;
  }

  // Entries of a layer, each head's counted by itself.
  std::size_t slots(int layer) const {
    std::size_t n = 0;
    for (const PositionList& head : layers_.at(at(layer))) n += head.size();
    return n;
  }

  // Entries of all layers; one of a single head counts as its share of an entry, and a share as a whole.
  std::size_t total_length() const {
    std::size_t all = 0;
    for (int layer = 0; layer < shape_.n_layer; ++layer) all += slots(layer);
    const std::size_t n_head_kv = at(shape_.n_head_kv);
    return (all + n_head_kv - 1) / n_head_kv;
  }

  // The most entries of all layers while a single token was in flight, before the layer's own selection.
  std::size_t peak_decode_length() const { return peak_decode_length_; }

  std::int64_t n_past() const { return n_past_; }
  std::int64_t query_position() const { return query_position_; }
  std::size_t n_selections() const { return n_selections_; }

  void keep(int layer, Selection selection) override {
    const std::size_t index = at(layer);
    if (index >= layers_.size()) fail("keep names layer " + std::to_string(layer));
    if (pending_[index]) fail("keep names a layer twice in one update");
    const std::size_t n_lists = selection.heads.size();
    if (n_lists != 1 && !(traits_.per_head && n_lists == layers_[index].size())) fail("wrong number of lists");
    for (std::size_t head = 0; head < layers_[index].size(); ++head) {
      check(selection.heads[n_lists == 1 ? 0 : head], layers_[index][head].size());
      if (!traits_.uneven_heads && selection.heads[n_lists == 1 ? 0 : head].size() != selection.heads[0].size()) {
        fail("uneven heads were not declared");
      }
    }
    pending_[index] = std::move(selection);
    ++n_selections_;
  }

  void drop(int layer, std::span<const std::uint32_t> entries) override {
    Selection selection;
    for (std::size_t head = 0; head < entries.size(); ++head) {
      const std::size_t n_entries = layers_.at(at(layer)).at(head).size();
      if (entries[head] >= n_entries && entries[head] != kNoEntry) fail("drops an entry that is not there");
      std::vector<std::uint32_t>& kept = selection.heads.emplace_back();
      for (std::uint32_t i = 0; i < n_entries; ++i) {
        if (i != entries[head]) kept.push_back(i);
      }
    }
    // What stays keeps its order, whatever that is.
    const bool ordered = std::exchange(traits_.ordered, true);
    keep(layer, std::move(selection));
    traits_.ordered = ordered;
  }

  // Whether more text follows the segments from here on before a question.
  void expect_more(bool more_follows) { more_follows_ = more_follows; }

  // Runs a segment through all layers. `after_layer` is called when a layer's selections were applied.
  void feed(Policy& policy, Phase phase, std::size_t n_new, const AttentionSource& attention,
            const std::function<void(int layer)>& after_layer = {}) {
    query_position_ = (std::int64_t)length(0) + policy.measures(phase, 0, length(0) + n_new, n_new).query_shift;
    for (int layer = 0; layer < shape_.n_layer; ++layer) {
      append(layer, n_new);
      if (n_new == 1) peak_decode_length_ = std::max(peak_decode_length_, total_length());
      observe(policy, phase, layer, n_new, attention);
      apply();
      if (after_layer) after_layer(layer);
    }
    n_past_ += (std::int64_t)n_new;
  }

  // Whether texts come with a repeat from here on, where the policy asks for one.
  void set_repeats(bool repeats) { repeats_ = repeats; }

  // Between segments.
  void resize(Policy& policy, std::size_t cache_size) {
    policy.resize(cache_size, *this);
    apply();
  }

 private:
  using Heads = std::vector<PositionList>;

  static std::size_t at(int index) { return (std::size_t)index; }
  [[noreturn]] static void fail(const std::string& what) {
    throw std::logic_error("policy broke its promise: " + what);
  }

  void check(const std::vector<std::uint32_t>& list, std::size_t n_entries) const {
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (list[i] >= n_entries) fail("index " + std::to_string(list[i]) + " of " + std::to_string(n_entries));
      if (traits_.ordered && i > 0 && list[i] <= list[i - 1]) fail("a list is not ascending and unique");
    }
  }

  void append(int layer, std::size_t n_new) {
    for (PositionList& head : layers_[at(layer)]) {
      for (std::size_t i = 0; i < n_new; ++i) head.push_back(n_past_ + (std::int64_t)i);
    }
  }

  void observe(Policy& policy, Phase phase, int layer, std::size_t n_new, const AttentionSource& attention) {
    const std::size_t n_entries = length(layer);
    const auto n_head = at(shape_.n_head);
    const Measures asked = more_follows_ ? policy.measures_before_question(layer, n_entries, n_new)
                                         : policy.measures(phase, layer, n_entries, n_new);

    Observation seen{.phase = phase,
                     .layer = layer,
                     .n_entries = n_entries,
                     .n_new = n_new,
                     .n_past = n_past_,
                     .more_follows = more_follows_};
    std::vector<float> mean, variance, last_row, sums, similarity, peak, norm, expected, peaks;
    std::vector<double> entropy;
    const std::size_t group = n_head / at(shape_.n_head_kv);
    const std::size_t n_columns = asked.group_mean ? at(shape_.n_head_kv) : n_head;
    if (asked.window > 0) {
      const std::size_t n_rows = std::min(at(asked.window), n_new);
      const std::vector<float> rows = seen_rows(attention, layer, n_entries, n_rows);
      mean.resize(n_entries * n_head);
      variance.resize(n_entries * n_head);
      entropy.resize(n_head);
      for (std::size_t h = 0; h < n_head; ++h) {
        entropy[h] = attention::window_statistics(rows.data() + h * n_rows * n_entries, n_entries, n_rows,
                                                  mean.data() + h * n_entries, variance.data() + h * n_entries);
      }
      if (asked.group_mean) average_groups(mean, group, n_entries);
      seen.window = (int)n_rows;
      seen.window_mean = std::span(mean).first(n_entries * n_columns);
      if (n_rows > 1 && !asked.group_mean) {
        seen.window_variance = variance;
        seen.window_entropy = entropy;
      }
      if (asked.last_row) {
        for (std::size_t h = 0; h < n_head; ++h) {
          const auto end = rows.begin() + (std::ptrdiff_t)((h + 1) * n_rows * n_entries);
          last_row.insert(last_row.end(), end - (std::ptrdiff_t)n_entries, end);
        }
        seen.last_row = last_row;
      }
      if (asked.window_peak && phase == Phase::kPrefill) {
        peak.resize(n_entries * at(shape_.n_head_kv));
        for (std::size_t r = 0; r < n_rows * n_head; ++r) {
          const std::size_t head = r / (n_rows * group), n = held(layer, (int)head).size() - n_rows;
          attention::raise_to_pooled(std::span(rows).subspan(r * n_entries, n),
                                     std::span(peak).subspan(head * n_entries, n));
        }
        seen.window_peak = peak;
      }
    }
    if (asked.accumulated) {
      const std::vector<float> rows = seen_rows(attention, layer, n_entries, n_new);
      sums.assign(n_entries * n_head, 0.0f);
      for (std::size_t i = 0; i < rows.size(); ++i)
        sums[i / (n_entries * n_new) * n_entries + i % n_entries] += rows[i];
      if (asked.group_mean) average_groups(sums, group, n_entries);
      seen.accumulated = std::span(sums).first(n_entries * n_columns);
    }
    if (asked.key_similarity) {
      // Any numbers in [-1, 1] do: one row of attention per KV head.
      const std::vector<float> rows = attention(layer, n_entries, 1);
      similarity.assign(rows.begin(), rows.begin() + (std::ptrdiff_t)(n_entries * at(shape_.n_head_kv)));
      seen.key_similarity = similarity;
    }
    // Likewise any numbers, of a token the same in every segment.
    if (asked.value_norm != ValueNorm::kNone && phase == Phase::kPrefill) {
      const bool by_kv_head = asked.value_norm == ValueNorm::kPlain || asked.group_mean;
      norm.resize(n_entries * (by_kv_head ? at(shape_.n_head_kv) : n_head));
      for (std::size_t column = 0; column * n_entries < norm.size(); ++column) {
        const PositionList& tokens = held(layer, (int)(by_kv_head ? column : column / group));
        for (std::size_t i = 0; i < tokens.size(); ++i) {
          norm[column * n_entries + i] = 1 + 0.1f * (float)((tokens[i] * 7 + (int)column) % 11);
        }
      }
      seen.value_norm = norm;
    }
    if (asked.expected_positions > 0 && phase == Phase::kPrefill &&
        n_past_ + (std::int64_t)n_new > asked.expected_sinks) {
      expected = seen_rows(attention, layer, n_entries, 1);
      average_groups(expected, group, n_entries);
      expected.resize(n_entries * at(shape_.n_head_kv));
      seen.expected = expected;
    }
    if (asked.repeat != RepeatScore::kNone && repeats_) {
      // As if all of the segment was repeated, by queries that saw one row's attention.
      const std::vector<float> rows = attention(layer, n_entries, 1);
      peaks.assign(n_entries * at(shape_.n_head_kv), -1.0f);
      for (std::size_t i = 0; i < peaks.size(); ++i) {
        if (i % n_entries >= n_entries - n_new) peaks[i] = rows[i];
      }
      seen.repeat_peak = peaks;
    }
    // Of the new tokens alone: what the source gives for them in one row of each KV head.
    std::vector<float> learned;
    if (asked.learned) {
      const std::vector<float> rows = attention(layer, n_entries, 1);
      for (std::size_t head = 0; head < at(shape_.n_head_kv); ++head) {
        const auto end = rows.begin() + (std::ptrdiff_t)((head + 1) * n_entries);
        learned.insert(learned.end(), end - (std::ptrdiff_t)n_new, end);
      }
      seen.learned = learned;
    }
    policy.update(seen, *this);
  }

  // What the source gives for as many entries as each head has; heads that hold less than the longest end in zeros.
  std::vector<float> seen_rows(const AttentionSource& attention, int layer, std::size_t n_entries,
                               std::size_t n_rows) const {
    std::vector<float> result = attention(layer, n_entries, n_rows);
    const std::size_t group = at(shape_.n_head) / at(shape_.n_head_kv);
    for (std::size_t head = 0; head < at(shape_.n_head_kv); ++head) {
      const std::size_t n_own = held(layer, (int)head).size();
      if (n_own == n_entries) continue;
      const std::vector<float> own = attention(layer, n_own, n_rows);
      for (std::size_t row = head * group * n_rows; row < (head + 1) * group * n_rows; ++row) {
        const auto to = result.begin() + (std::ptrdiff_t)(row * n_entries);
        std::fill_n(std::copy_n(own.begin() + (std::ptrdiff_t)(row * n_own), n_own, to), n_entries - n_own, 0.0f);
      }
    }
    return result;
  }

  // [n_entries, n_head] -> [n_entries, n_head_kv] in place.
  void average_groups(std::vector<float>& columns, std::size_t group, std::size_t n_entries) const {
    for (std::size_t kv = 0; kv < at(shape_.n_head_kv); ++kv) {
      for (std::size_t i = 0; i < n_entries; ++i) {
        float sum = 0;
        for (std::size_t h = kv * group; h < (kv + 1) * group; ++h) sum += columns[h * n_entries + i];
        columns[kv * n_entries + i] = sum / (float)group;
      }
    }
  }

  void apply() {
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      if (!pending_[layer]) continue;
      const Selection selection = *std::exchange(pending_[layer], std::nullopt);
      for (std::size_t head = 0; head < layers_[layer].size(); ++head) {
        PositionList kept;
        for (std::uint32_t i : selection.heads[selection.heads.size() == 1 ? 0 : head]) {
          kept.push_back(layers_[layer][head][i]);
        }
        layers_[layer][head] = std::move(kept);
      }
    }
  }

  AttentionShape shape_;
  PolicyTraits traits_;
  std::vector<Heads> layers_;
  std::vector<std::optional<Selection>> pending_;
  bool more_follows_ = false;
  std::int64_t n_past_ = 0;
  std::int64_t query_position_ = 0;
  std::size_t n_selections_ = 0;
  bool repeats_ = true;
  std::size_t peak_decode_length_ = 0;
};

}  // namespace lacake::simulation
