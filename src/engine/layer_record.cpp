#include "engine/layer_record.h"

#include <algorithm>
#include <utility>

#include "engine/plan.h"

namespace lacake {

LayerRecord::LayerRecord(const Hyperparameters& h, std::vector<Measures> asked, const PassChunks& chunks,
                         const Layer& layer)
    : h_(&h),
      chunks_(&chunks),
      layer_(layer),
      asked_(std::move(asked)),
      entries_(h, asked_, layer.n_kept + layer.n_new, layer.n_kept > 0, layer.threads),
      stride_(layer.n_kept + chunks.n_rows()) {
  for (const Measures& m : asked_) {
    wanted_.window = std::max(wanted_.window, m.window);
    wanted_.accumulated = wanted_.accumulated || m.accumulated;
    wanted_.learned = wanted_.learned || m.learned;
    wanted_.inputs = wanted_.inputs || m.inputs;
    if (!chunks.repeats() || m.repeat == RepeatScore::kNone) continue;
    if (std::ranges::any_of(peaks_, [&](const Peaks& p) { return p.is(m); })) continue;
    peaks_.push_back({.score = m.repeat, .n_sinks = m.repeat_sinks});
  }
  n_recorded_ = std::min((std::size_t)wanted_.window, chunks.n_observed());
}

std::uint64_t LayerRecord::record_bytes() const {
  const std::size_t rows = n_recorded_ + (wanted_.accumulated ? 1 : 0) + peaks_.size();
  return (std::uint64_t)(row() * rows + entries_.floats()) * sizeof(float);
}

std::uint64_t LayerRecord::input_bytes() const {
  return lacake::input_bytes(wants_scores(), wanted_.inputs, layer_.n_new, *h_);
}

void LayerRecord::place(float* record, float* inputs) {
  if (n_recorded_ > 0) probabilities_ = record;
  record += row() * n_recorded_;
  if (wanted_.accumulated) {
    sums_ = record;
    std::fill_n(sums_, row(), 0.0f);
    record += row();
  }
  for (Peaks& peaks : peaks_) {
    peaks.peaks = record;
    std::fill_n(record, row(), kNoPeak);
    record += row();
  }
  entries_.place(record);
  if (wanted_.inputs) {
    inputs_ = inputs;
    inputs += layer_.n_new * (std::size_t)h_->n_embd;
  }
  if (wants_scores()) scores_ = inputs;
}

void LayerRecord::ask_attention(const PassChunk& chunk, const Cache& cache, attention::PrefillLayer& attention,
                                attention::RepeatLayer& repeat) const {
  const std::size_t record_from = chunks_->observed_end() - n_recorded_;
  if (chunks_->is_observed(chunk) && chunk.row + chunk.tokens.size() > record_from) {
    attention.record = probabilities_;
    attention.record_from = record_from;
    attention.record_rows = n_recorded_;
  }
  if (chunks_->is_summed(chunk)) attention.sums = sums_;
  if (!chunk.repeats() || peaks_.empty()) return;
  repeat.first = chunk.probe->first;
  repeat.last = chunk.probe->last;
  repeat.own = layer_.n_new;
  for (const Peaks& wanted : peaks_) {
    attention::RepeatLayer::Asked asked{.of_output = wanted.score == RepeatScore::kPeakOfOutput, .peaks = wanted.peaks};
    // The first entries are those that were kept longest, then the segment's own.
    for (int h = 0; h < h_->n_head_kv; ++h) {
      const auto slots = cache.slots(layer_.index, h);
      const auto n = (std::ptrdiff_t)std::min(wanted.n_sinks, slots.size());
      asked.past_sinks.emplace_back(slots.begin(), slots.begin() + n);
    }
    const std::size_t n_past_sinks = std::min(wanted.n_sinks, layer_.n_kept);
    asked.n_fresh_sinks = std::min(wanted.n_sinks - n_past_sinks, chunk.probe->first);
    repeat.asked.push_back(std::move(asked));
  }
  attention.repeat = &repeat;
}

InputWatch LayerRecord::watch_of(const PassChunk& chunk) const {
  InputWatch watch{.stride = layer_.n_new};
  if (chunk.probe) return watch;
  if (scores_) {
    watch.learned = layer_.learned;
    watch.scores = scores_ + chunk.row;
  }
  if (inputs_) watch.inputs = inputs_ + chunk.row * (std::size_t)h_->n_embd;
  return watch;
}

Recording LayerRecord::recording() const {
  return {.probabilities = probabilities_, .n_rows = n_recorded_, .sums = sums_, .peaks = peaks_, .stride = stride_};
}

}  // namespace lacake
