#include "engine/entry_measures.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "attention/expected.h"
#include "attention/forms.h"
#include "attention/measure.h"
#include "attention/row.h"

namespace lacake {
namespace {

// Entries of a head that one thread takes at once.
constexpr std::size_t kPart = 8 * attention::kFormEntries;

std::size_t output_floats(const Hyperparameters& h) {
  return OutputProjection::kAtOnce * (std::size_t)h.n_head * (std::size_t)h.d_v;
}

}  // namespace

// The entries of one KV head in stored order.
class EntryMeasures::Entries {
 public:
  Entries(const Layer& layer, int head)
      : shape_(attention::shape_of_head(layer.shape, (std::size_t)head)),
        past_(layer.cache->rows(layer.layer, head)),
        order_(layer.cache->slots(layer.layer, head)),
        fresh_{.k = layer.fresh.k + (std::size_t)head * layer.fresh.capacity * k_row(),
               .v = layer.fresh.v + (std::size_t)head * layer.fresh.capacity * v_row(),
               .k_stride = k_row(),
               .v_stride = v_row(),
               .n = layer.fresh.n,
               .rope_index = layer.fresh_index} {
    if (!layer.rotates_past) past_.rope_index = nullptr;
  }

  std::size_t size() const { return order_.size() + fresh_.n; }
  std::span<const std::uint32_t> order() const { return order_; }
  void load_key(std::size_t i, float* out) const {
    const bool past = i < order_.size();
    attention::load_plain_key(shape_, past ? past_ : fresh_, past ? order_[i] : i - order_.size(), out);
  }
  void load_value(std::size_t i, float* out) const {
    const bool past = i < order_.size();
    attention::load_value(shape_, past ? past_ : fresh_, past ? order_[i] : i - order_.size(), out);
  }

 private:
  std::size_t k_row() const { return ggml_row_size(shape_.type_k, shape_.d_k); }
  std::size_t v_row() const { return ggml_row_size(shape_.type_v, shape_.d_v); }

  attention::Shape shape_;
  attention::Rows past_;
  std::span<const std::uint32_t> order_;
  attention::Rows fresh_;
};

EntryMeasures::EntryMeasures(const Hyperparameters& h, std::span<const Measures> asked, std::size_t n_entries,
                             bool past, int threads)
    : h_(&h), n_entries_(n_entries) {
  for (const Measures& m : asked) {
    const bool projected = m.value_norm != ValueNorm::kPlain, whole_group = projected && m.group_mean;
    const auto same_norm = [&](const Norm& n) { return n.kind == m.value_norm && n.group_mean == whole_group; };
    if (m.value_norm != ValueNorm::kNone && std::none_of(norms_.begin(), norms_.end(), same_norm)) {
      norms_.push_back({m.value_norm, whole_group, (std::size_t)(projected && !whole_group ? h.n_head : h.n_head_kv)});
    }
    const auto same_peak = [&](const Peak& p) { return p.window == (std::size_t)m.window; };
    if (m.window_peak && m.window > 0 && std::none_of(peaks_.begin(), peaks_.end(), same_peak)) {
      peaks_.push_back({(std::size_t)m.window});
    }
    const auto same_queries = [&](const Expected& e) {
      return e.positions == m.expected_positions && e.sinks == m.expected_sinks;
    };
    if (m.expected_positions > 0 && std::none_of(expected_.begin(), expected_.end(), same_queries)) {
      expected_.push_back({m.expected_positions, m.expected_sinks});
    }
  }
  const auto n_head = (std::size_t)h.n_head, n_head_kv = (std::size_t)h.n_head_kv;
  for (const Norm& norm : norms_) floats_ += n_entries * norm.n_columns;
  floats_ += peaks_.size() * n_entries * n_head_kv;
  if (past && !peaks_.empty()) floats_ += n_entries * (std::size_t)threads;
  floats_ += expected_.size() * (n_entries * n_head_kv + n_head * attention::query_floats((std::size_t)h.d_k));
  if (!expected_.empty()) floats_ += n_entries * n_head;
  if (std::ranges::any_of(norms_, &Norm::projected)) floats_ += output_floats(h);
}

void EntryMeasures::place(float* memory) {
  const auto n_head = (std::size_t)h_->n_head, n_head_kv = (std::size_t)h_->n_head_kv;
  const auto take = [&](std::size_t n) { return (memory += n) - n; };
  for (Norm& norm : norms_) norm.at = take(n_entries_ * norm.n_columns);
  for (Peak& peak : peaks_) peak.at = take(n_entries_ * n_head_kv);
  for (Expected& e : expected_) {
    e.at = take(n_entries_ * n_head_kv);
    e.queries = take(n_head * attention::query_floats((std::size_t)h_->d_k));
  }
  if (!expected_.empty()) logits_ = take(n_entries_ * n_head);
  // What is used by some measures only comes last.
  output_rows_ = memory;
  if (std::ranges::any_of(norms_, &Norm::projected)) take(output_floats(*h_));
  peak_rows_ = memory;
}

// Tokens of the chunk that are sinks.
std::int64_t EntryMeasures::skipped(const Expected& e, const Queries& chunk) const {
  return std::clamp(e.sinks - chunk.first_token, std::int64_t{0}, (std::int64_t)chunk.n);
}

void EntryMeasures::add_queries(const Queries& chunk, std::size_t head) {
  const auto d = (std::size_t)h_->d_k;
  for (const Expected& e : expected_) {
    const auto from = (std::size_t)skipped(e, chunk);
    if (from == chunk.n) continue;
    attention::add_queries(chunk.q + head * chunk.head_stride + from * chunk.token_stride, chunk.n - from,
                           chunk.token_stride, d, e.n_queries == 0, e.queries + head * attention::query_floats(d));
  }
}

void EntryMeasures::added(const Queries& chunk) {
  for (Expected& e : expected_) e.n_queries += chunk.n - (std::size_t)skipped(e, chunk);
}

void EntryMeasures::measure(const Layer& layer, const Turn& turn, const Output& output, OutputGrams& grams,
                            Workers& workers, attention::Scratch& scratch) {
  const auto n_head = (std::size_t)h_->n_head, n_head_kv = (std::size_t)h_->n_head_kv, d_k = (std::size_t)h_->d_k;
  for (const Norm& norm : norms_) std::fill_n(norm.at, n_entries_ * norm.n_columns, 0.0f);
  for (const Peak& peak : peaks_) std::fill_n(peak.at, n_entries_ * n_head_kv, 0.0f);

  const auto of_kind = [](ValueNorm kind) { return [kind](const Norm& n) { return n.kind == kind; }; };
  const float* layer_grams = nullptr;
  if (std::any_of(norms_.begin(), norms_.end(), of_kind(ValueNorm::kOutput))) {
    layer_grams = grams.of(layer.layer, output(), workers, {output_rows_, output_floats(*h_)});
  }
  for (const Expected& e : expected_) {
    std::fill_n(e.at, n_entries_ * n_head_kv, 0.0f);
    if (e.n_queries == 0) continue;
    const attention::Rope mean = turn(e.positions);
    workers.each(n_head, [&](std::size_t head, int) {
      attention::turn_queries(e.n_queries, d_k, layer.shape.scale, mean,
                              e.queries + head * attention::query_floats(d_k));
    });
  }

  std::vector<Entries> entries;
  for (int head = 0; head < h_->n_head_kv; ++head) entries.emplace_back(layer, head);
  const std::size_t n_parts = (n_entries_ + kPart - 1) / kPart;
  const auto floats_of = [&](int thread) {
    const std::span<std::byte> bytes = scratch.of(thread);
    return std::span((float*)bytes.data(), bytes.size() / sizeof(float));
  };
  // One after the other, because they share the logits.
  for (std::size_t i = 0; i < std::max<std::size_t>(expected_.size(), 1); ++i) {
    const Expected* e = expected_.empty() || expected_[i].n_queries == 0 ? nullptr : &expected_[i];
    workers.each(n_head_kv * n_parts, [&](std::size_t part, int thread) {
      const std::size_t head = part % n_head_kv, begin = part / n_head_kv * kPart;
      const std::size_t end = std::min(begin + kPart, entries[head].size());
      if (begin >= end) return;
      if (i == 0) see_values(entries[head], head, begin, end, layer_grams, floats_of(thread));
      if (e) see_keys(entries[head], *e, head, begin, end, floats_of(thread));
    });
    if (e) workers.each(n_head_kv, [&](std::size_t head, int) { expect(entries[head], *e, head); });
  }
  if (std::any_of(norms_.begin(), norms_.end(), of_kind(ValueNorm::kOutputSum))) {
    add_output_sums(output(), entries, workers, scratch);
  }
  if (!peaks_.empty() && layer.recording.probabilities) {
    workers.each(n_head_kv, [&](std::size_t head, int thread) {
      see_peaks(entries[head], layer, head, peak_rows_ + (std::size_t)thread * n_entries_);
    });
  }
}

void EntryMeasures::see_values(const Entries& entries, std::size_t head, std::size_t begin, std::size_t end,
                               const float* grams, std::span<float> scratch) {
  if (norms_.empty()) return;
  const auto d = (std::size_t)h_->d_v, group = (std::size_t)h_->group();
  float *block = scratch.data(), *value = block + attention::kFormEntries * d;
  std::array<float, attention::kFormEntries> squares;
  for (std::size_t first = begin; first < end; first += attention::kFormEntries) {
    const std::size_t n = std::min(attention::kFormEntries, end - first);
    std::fill_n(block, attention::kFormEntries * d, 0.0f);
    for (std::size_t i = 0; i < n; ++i) {
      entries.load_value(first + i, value);
      attention::put_in_block(value, d, i, block);
      for (const Norm& norm : norms_) {
        if (norm.kind != ValueNorm::kPlain) continue;
        double square = 0;
        for (std::size_t c = 0; c < d; ++c) square += (double)value[c] * value[c];
        norm.at[head * n_entries_ + first + i] = (float)std::sqrt(square);
      }
    }
    for (const Norm& norm : norms_) {
      if (norm.kind != ValueNorm::kOutput) continue;
      for (std::size_t g = 0; g < group; ++g) {
        attention::quadratic_forms(grams + (head * group + g) * d * d, nullptr, d, block, squares.data());
        float* to = norm.at + (norm.group_mean ? head : head * group + g) * n_entries_ + first;
        const float share = norm.group_mean ? 1 / (float)group : 1.0f;
        // Rounding may leave a little less than 0.
        for (std::size_t i = 0; i < n; ++i) to[i] += share * std::sqrt(std::max(squares[i], 0.0f));
      }
    }
  }
}

void EntryMeasures::see_keys(const Entries& entries, const Expected& e, std::size_t head, std::size_t begin,
                             std::size_t end, std::span<float> scratch) {
  const auto d = (std::size_t)h_->d_k, group = (std::size_t)h_->group();
  float *block = scratch.data(), *key = block + attention::kFormEntries * d;
  std::array<float, attention::kFormEntries> logits;
  for (std::size_t first = begin; first < end; first += attention::kFormEntries) {
    const std::size_t n = std::min(attention::kFormEntries, end - first);
    std::fill_n(block, attention::kFormEntries * d, 0.0f);
    for (std::size_t i = 0; i < n; ++i) {
      entries.load_key(first + i, key);
      attention::put_in_block(key, d, i, block);
    }
    for (std::size_t h = head * group; h < (head + 1) * group; ++h) {
      attention::expected_logits(e.queries + h * attention::query_floats(d), d, block, logits.data());
      std::copy_n(logits.data(), n, logits_ + h * n_entries_ + first);
    }
  }
}

void EntryMeasures::expect(const Entries& entries, const Expected& e, std::size_t head) {
  const auto group = (std::size_t)h_->group();
  const std::size_t n = entries.size(), first = std::min((std::size_t)e.sinks, n);
  for (std::size_t h = head * group; h < (head + 1) * group; ++h) {
    attention::add_softmax({logits_ + h * n_entries_ + first, n - first}, 1 / (float)group,
                           e.at + head * n_entries_ + first);
  }
}

// A part of W_O's rows after the other, so that no more of it than that is ever f32.
void EntryMeasures::add_output_sums(const OutputProjection& output, std::span<const Entries> entries, Workers& workers,
                                    attention::Scratch& scratch) {
  const auto d = (std::size_t)h_->d_v, group = (std::size_t)h_->group(), n_head_kv = (std::size_t)h_->n_head_kv;
  const std::size_t n_parts = (n_entries_ + kPart - 1) / kPart;
  for (std::size_t row = 0; row < output.n_out; row += OutputProjection::kAtOnce) {
    const std::size_t n_rows = std::min(OutputProjection::kAtOnce, output.n_out - row);
    const bool last = row + n_rows == output.n_out;
    workers.each(n_rows, [&](std::size_t i, int) { output.read(row + i, output_rows_ + i * output.n_in); });
    workers.each(n_head_kv * n_parts, [&](std::size_t part, int thread) {
      const std::size_t head = part % n_head_kv, begin = part / n_head_kv * kPart;
      const std::size_t end = std::min(begin + kPart, entries[head].size());
      auto* block = (float*)scratch.of(thread).data();
      float* value = block + attention::kFormEntries * d;
      std::array<float, attention::kFormEntries> sums;
      for (std::size_t first = begin; first < end; first += attention::kFormEntries) {
        const std::size_t n = std::min(attention::kFormEntries, end - first);
        std::fill_n(block, attention::kFormEntries * d, 0.0f);
        for (std::size_t i = 0; i < n; ++i) {
          entries[head].load_value(first + i, value);
          attention::put_in_block(value, d, i, block);
        }
        for (const Norm& norm : norms_) {
          if (norm.kind != ValueNorm::kOutputSum) continue;
          for (std::size_t g = 0; g < group; ++g) {
            float* to = norm.at + (norm.group_mean ? head : head * group + g) * n_entries_ + first;
            sums.fill(0);
            std::copy_n(to, n, sums.begin());
            attention::add_absolute_products(output_rows_ + (head * group + g) * d, n_rows, output.n_in, d, block,
                                             sums.data());
            std::copy_n(sums.begin(), n, to);
          }
          if (!last || !norm.group_mean) continue;
          float* to = norm.at + head * n_entries_ + first;
          for (std::size_t i = 0; i < n; ++i) to[i] /= (float)group;
        }
      }
    });
  }
}

// A row's neighbours are those of stored order, so what lies in slots is put into it first.
//   row  scratch [n_entries], where there are entries from before the segment
void EntryMeasures::see_peaks(const Entries& entries, const Layer& layer, std::size_t head, float* row) {
  const Recording& recording = layer.recording;
  const auto group = (std::size_t)h_->group();
  const std::span<const std::uint32_t> order = entries.order();
  for (const Peak& peak : peaks_) {
    const std::size_t n_rows = std::min(peak.window, recording.n_rows);
    // Behind the head's own entries come a probe's; the window's rows are the last of all.
    const std::size_t n_own = entries.size() + layer.n_probe;
    const std::size_t n = std::min(entries.size(), n_own - n_rows);
    const std::span<float> to(peak.at + head * n_entries_, n);
    for (std::size_t h = head * group; h < (head + 1) * group; ++h) {
      for (std::size_t r = recording.n_rows - n_rows; r < recording.n_rows; ++r) {
        const float* seen = recording.probabilities + (h * recording.n_rows + r) * recording.stride;
        if (order.empty()) {
          attention::raise_to_pooled({seen, n}, to);
          continue;
        }
        for (std::size_t i = 0; i < order.size(); ++i) row[i] = seen[order[i]];
        std::copy_n(seen + order.size(), entries.size() - order.size(), row + order.size());
        attention::raise_to_pooled({row, n}, to);
      }
    }
  }
}

void EntryMeasures::show(const Measures& asked, Observation& seen) const {
  for (const Norm& norm : norms_) {
    if (norm.kind != asked.value_norm ||
        norm.group_mean != (asked.value_norm != ValueNorm::kPlain && asked.group_mean)) {
      continue;
    }
    seen.value_norm = {norm.at, n_entries_ * norm.n_columns};
  }
  for (const Peak& peak : peaks_) {
    if (!asked.window_peak || peak.window != (std::size_t)asked.window) continue;
    seen.window_peak = {peak.at, n_entries_ * (std::size_t)h_->n_head_kv};
  }
  for (const Expected& e : expected_) {
    if (e.positions != asked.expected_positions || e.sinks != asked.expected_sinks || e.n_queries == 0) continue;
    seen.expected = {e.at, n_entries_ * (std::size_t)h_->n_head_kv};
  }
}

}  // namespace lacake
