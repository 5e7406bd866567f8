#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/prefill_op.h"
#include "cache/cache.h"
#include "engine/entry_measures.h"
#include "engine/input_watch.h"
#include "engine/observe.h"
#include "engine/pass_chunks.h"
#include "lacake/policy_author.h"
#include "model/architecture.h"
#include "model/calibration.h"

namespace lacake {

// What the policies of a pass's sessions ask of one layer, all of them together, and where the layer's chunks leave it.
// The widest window serves the narrower ones; what several ask for alike is recorded once.
//
//     LayerRecord record(hyperparameters, asked, chunks, layer);
//     record.place(memory, inputs);               // record.record_bytes() and record.input_bytes() of them
//     record.ask_attention(chunk, cache, ...);    // for each chunk, before it runs
//     record.recording(), record.scores(), ...    // what a policy is shown
class LayerRecord {
 public:
  struct Layer {
    int index = 0;                          // as the cache counts
    std::size_t n_kept = 0;                 // entries from before the segment
    std::size_t n_new = 0;                  // tokens of the segment
    const LearnedLayer* learned = nullptr;  // null: the model has no learned scores of this layer
    int threads = 1;
  };

  LayerRecord() = default;
  //   asked   by session
  //   chunks  the pass's, which outlive this
  LayerRecord(const Hyperparameters& h, std::vector<Measures> asked, const PassChunks& chunks, const Layer& layer);

  const Measures& asked_by(std::size_t session) const { return asked_[session]; }

  std::uint64_t record_bytes() const;
  std::uint64_t input_bytes() const;
  // Sums and peaks begin anew.
  void place(float* record, float* inputs);

  // Adds to `attention` what it has to leave of this chunk's queries.
  //   cache   whose sinks a repeat is compared with
  //   repeat  used if the chunk repeats something that was asked for; lives until the chunk has run
  void ask_attention(const PassChunk& chunk, const Cache& cache, attention::PrefillLayer& attention,
                     attention::RepeatLayer& repeat) const;
  // What is taken of the columns that the chunk's keys are projected from.
  InputWatch watch_of(const PassChunk& chunk) const;
  bool wants_queries(const PassChunk& chunk) const { return chunks_->is_summed(chunk) && entries_.wants_queries(); }

  EntryMeasures& entries() { return entries_; }
  const EntryMeasures& entries() const { return entries_; }
  Recording recording() const;
  std::span<const float> scores() const { return {scores_, scores_ ? layer_.n_new * (std::size_t)h_->n_head_kv : 0}; }
  std::span<const float> inputs() const { return {inputs_, inputs_ ? layer_.n_new * (std::size_t)h_->n_embd : 0}; }

 private:
  bool wants_scores() const { return wanted_.learned && layer_.learned; }
  std::size_t row() const { return stride_ * (std::size_t)h_->n_head; }  // floats of one row of every head

  const Hyperparameters* h_ = nullptr;
  const PassChunks* chunks_ = nullptr;
  Layer layer_;
  std::vector<Measures> asked_;
  Measures wanted_;           // of all, but for repeats
  std::vector<Peaks> peaks_;  // of repeats, each once
  EntryMeasures entries_;
  std::size_t stride_ = 0;      // entries, with those of the longest probe
  std::size_t n_recorded_ = 0;  // queries whose probabilities are recorded: the last of the observed
  float* probabilities_ = nullptr;
  float* sums_ = nullptr;
  float* scores_ = nullptr;  // learned ones, [n_new, n_head_kv]
  float* inputs_ = nullptr;  // [n_embd, n_new]
};

}  // namespace lacake
