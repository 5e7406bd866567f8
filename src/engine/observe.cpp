#include "engine/observe.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "attention/measure.h"
#include "engine/entry_measures.h"

namespace lacake {

// Statistics are taken in slot order, where rows are contiguous, and then put into stored order: they are sums over a
// column's own rows, so the order of columns does not change them.
const Observation& Observer::observe(const Measures& asked, const Cache& cache, const LayerVisit& visit) {
  const std::size_t n = cache.length(visit.layer) + visit.fresh.n;
  observation_ = {.phase = visit.phase,
                  .layer = visit.policy_layer,
                  .n_entries = n,
                  .n_new = visit.n_new,
                  .n_past = visit.n_past,
                  .n_probe = visit.n_probe,
                  .more_follows = visit.more_follows};
  if (asked.learned) observation_.learned = visit.learned;
  if (asked.inputs) observation_.inputs = visit.inputs;
  row_.resize(std::max(row_.size(), 2 * visit.recording.stride));
  if (asked.window > 0 && visit.recording.probabilities) see_window(asked, cache, visit, n);
  if (asked.accumulated && visit.recording.sums) see_sums(asked, cache, visit, n);
  if (asked.key_similarity) see_keys(asked, cache, visit, n);
  if (visit.entries) visit.entries->show(asked, observation_);
  for (const Peaks& peaks : visit.recording.peaks) {
    if (peaks.is(asked)) see_repeat(peaks, cache, visit, n);
  }
  return observation_;
}

void Observer::see_window(const Measures& asked, const Cache& cache, const LayerVisit& visit, std::size_t n) {
  const Recording& recording = visit.recording;
  const int n_head_kv = cache.arena().shape().n_head_kv, layer = visit.layer;
  const std::size_t n_head = (std::size_t)visit.n_head, group = n_head / (std::size_t)n_head_kv;
  const std::size_t n_columns = asked.group_mean ? (std::size_t)n_head_kv : n_head;
  const std::size_t rows = std::min((std::size_t)asked.window, recording.n_rows);
  const std::size_t skip = recording.n_rows - rows;
  observation_.window = (int)rows;
  if (!asked.window_mean) return;
  mean_.resize(n * n_columns);
  observation_.window_mean = {mean_.data(), n * n_columns};
  const auto rows_of = [&](std::size_t h) {
    return recording.probabilities + (h * recording.n_rows + skip) * recording.stride;
  };
  const auto show_row = [&](std::size_t row, std::vector<float>& to) {
    for (std::size_t h = 0; h < n_head; ++h) {
      stored_order(cache, layer, (int)(h / group), n, rows_of(h) + row * recording.stride, to.data() + h * n);
    }
  };
  if (asked.group_mean) {
    for (std::size_t kv = 0; kv < n_columns; ++kv) {
      const float* mean = rows_of(kv * group);
      if (!recording.group_mean) {
        average(mean, group, recording.n_rows * recording.stride, rows, recording.stride);
        mean = row_.data();
      }
      stored_order(cache, layer, (int)kv, n, mean, mean_.data() + kv * n);
    }
  } else if (rows == 1) {
    show_row(0, mean_);
  } else {
    variance_.resize(n * n_head);
    entropy_.resize(n_head);
    for (std::size_t h = 0; h < n_head; ++h) {
      const int head = (int)(h / group);
      // A head shorter than the longest ends in zeros: its window's own columns then count in its entropy.
      float* mean = row_.data();
      float* variance = row_.data() + recording.stride;
      entropy_[h] = attention::window_statistics(rows_of(h), recording.stride, rows, mean, variance);
      stored_order(cache, layer, head, n, mean, mean_.data() + h * n);
      stored_order(cache, layer, head, n, variance, variance_.data() + h * n);
    }
    observation_.window_variance = {variance_.data(), n * n_head};
    observation_.window_entropy = entropy_;
  }
  if (asked.last_row) {
    last_row_.resize(n * n_head);
    show_row(rows - 1, last_row_);
    observation_.last_row = last_row_;
  }
}

void Observer::see_sums(const Measures& asked, const Cache& cache, const LayerVisit& visit, std::size_t n) {
  const Recording& recording = visit.recording;
  const int n_head_kv = cache.arena().shape().n_head_kv;
  const std::size_t group = (std::size_t)(visit.n_head / n_head_kv);
  const std::size_t n_columns = (std::size_t)(asked.group_mean ? n_head_kv : visit.n_head);
  sums_.resize(n * n_columns);
  for (std::size_t column = 0; column < n_columns; ++column) {
    const float* sums = recording.sums + column * (recording.group_mean ? group : 1) * recording.stride;
    if (asked.group_mean && !recording.group_mean) {
      average(recording.sums + column * group * recording.stride, group, recording.stride, 1, recording.stride);
      sums = row_.data();
    }
    const std::size_t head = asked.group_mean ? column : column / group;
    stored_order(cache, visit.layer, (int)head, n, sums, sums_.data() + column * n);
  }
  observation_.accumulated = {sums_.data(), n * n_columns};
}

// Of a group the head that wants an entry most has its way.
void Observer::see_repeat(const Peaks& peaks, const Cache& cache, const LayerVisit& visit, std::size_t n) {
  const auto n_head_kv = (std::size_t)cache.arena().shape().n_head_kv;
  const std::size_t group = (std::size_t)visit.n_head / n_head_kv, stride = visit.recording.stride;
  const bool of_output = peaks.score == RepeatScore::kPeakOfOutput;
  assert(!of_output || observation_.value_norm.size() == n * (std::size_t)visit.n_head);
  peaks_.assign(n * n_head_kv, -1.0f);
  for (std::size_t kv = 0; kv < n_head_kv; ++kv) {
    // Only the segment's own are repeated, and they lie in stored order.
    const std::size_t n_past = cache.slots(visit.layer, (int)kv).size(), n_own = n_past + visit.fresh.n;
    float* most = peaks_.data() + kv * n;
    for (std::size_t h = kv * group; h < (kv + 1) * group; ++h) {
      for (std::size_t i = n_past; i < n_own; ++i) {
        const float peak = peaks.peaks[h * stride + i];
        if (peak == kNoPeak) continue;
        most[i] = std::max(most[i], std::exp2(peak) * (of_output ? observation_.value_norm[h * n + i] : 1.0f));
      }
    }
    std::fill(most + n_own, most + n, 0.0f);
  }
  observation_.repeat_peak = {peaks_.data(), peaks_.size()};
}

void Observer::see_keys(const Measures& asked, const Cache& cache, const LayerVisit& visit, std::size_t n) {
  const CacheShape& cs = cache.arena().shape();
  const SegmentRows& fresh = visit.fresh;
  const attention::Shape layer{
      .d_k = cs.d_k, .d_v = cs.d_v, .group = 1, .type_k = cs.type_k, .type_v = cs.type_v, .key_form = visit.key_form};
  const auto n_head_kv = (std::size_t)cs.n_head_kv;
  similarity_.resize(n * n_head_kv);
  row_.resize(std::max(row_.size(), n * n_head_kv));
  const auto see_head = [&](std::size_t h, int) {
    attention::Rows past = cache.rows(visit.layer, (int)h), rows;
    past.rope_index = nullptr;
    if (fresh.n > 0) rows = {.k = fresh.k + h * fresh.capacity * cs.k_row(), .k_stride = cs.k_row(), .n = fresh.n};
    float* by_slot = row_.data() + h * n;
    attention::key_similarity(attention::shape_of_head(layer, h), past, rows, asked.key_mean == KeyMean::kNormalised,
                              by_slot);
    stored_order(cache, visit.layer, (int)h, n, by_slot, similarity_.data() + h * n);
  };
  if (visit.workers) {
    visit.workers->each(n_head_kv, see_head);
  } else {
    for (std::size_t h = 0; h < n_head_kv; ++h) see_head(h, 0);
  }
  observation_.key_similarity = {similarity_.data(), similarity_.size()};
}

// Column by column in blocks whose sums stay in L1, because decoding does this for every head of every layer.
void Observer::average(const float* rows, std::size_t n_heads, std::size_t head_stride, std::size_t n_rows,
                       std::size_t n) {
  constexpr std::size_t kColumns = 1024;
  const float share = 1 / (float)(n_heads * n_rows);
  for (std::size_t begin = 0; begin < n; begin += kColumns) {
    const std::size_t n_columns = std::min(kColumns, n - begin);
    float* sums = row_.data() + begin;
    for (std::size_t i = 0; i < n_columns; ++i) sums[i] = rows[begin + i] * share;
    for (std::size_t j = 1; j < n_heads * n_rows; ++j) {
      const float* row = rows + j / n_rows * head_stride + j % n_rows * n + begin;
      for (std::size_t i = 0; i < n_columns; ++i) sums[i] += row[i] * share;
    }
  }
}

void Observer::stored_order(const Cache& cache, int layer, int head, std::size_t n_entries, const float* by_slot,
                            float* out) {
  const auto order = cache.slots(layer, head);
  const std::size_t n_fresh = n_entries - cache.length(layer);
  for (std::size_t i = 0; i < order.size(); ++i) out[i] = by_slot[order[i]];
  std::copy_n(by_slot + order.size(), n_fresh, out + order.size());
  std::fill(out + order.size() + n_fresh, out + n_entries, 0.0f);
}

}  // namespace lacake
