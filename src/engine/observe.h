#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "cache/cache.h"
#include "lacake/policy_author.h"
#include "place/workers.h"

namespace lacake {

class EntryMeasures;

// What some policies asked of repeats.
struct Peaks {
  RepeatScore score = RepeatScore::kNone;
  std::size_t n_sinks = 0;
  float* peaks = nullptr;  // [stride, n_head] to the base 2; kNoPeak where no probe repeats the entry

  bool is(const Measures& asked) const { return asked.repeat == score && asked.repeat_sinks == n_sinks; }
};
inline constexpr float kNoPeak = std::numeric_limits<float>::lowest();

// Recorded attention of one layer, entries as attention walks them: the cache's slots, then the segment's own rows.
// Where a head holds fewer entries than the longest, the rest of its rows is 0.
struct Recording {
  const float* probabilities = nullptr;  // [stride, n_rows, n_head], null: nothing recorded
  std::size_t n_rows = 0;
  const float* sums = nullptr;  // [stride, n_head], null: nothing accumulated
  std::span<const Peaks> peaks = {};
  std::size_t stride = 0;
  bool group_mean = false;  // of each KV head only the first column counts: the mean of its query heads, of one row
};

// One layer that a segment has passed.
struct LayerVisit {
  Phase phase = Phase::kPrefill;
  int layer = 0;         // as the cache counts
  int policy_layer = 0;  // as the policy does
  int n_head = 0;
  std::size_t n_new = 0;
  std::int64_t n_past = 0;
  std::size_t n_probe = 0;
  bool more_follows = false;
  Recording recording;
  std::span<const float> learned = {};  // [n_new, n_head_kv]
  std::span<const float> inputs = {};   // [n_embd, n_new]
  SegmentRows fresh;                    // the segment's own rows; under decode the new token's are in the cache already
  const EntryMeasures* entries = nullptr;  // of a prompt, what was measured beside the recording
  attention::KeyForm key_form;             // of all heads' keys
  Workers* workers = nullptr;              // what heads are divided among; null: the caller's thread does all
};

// Turns a recording into what a policy sees: statistics of what it asked for, entries in stored order. Owns the
// observation's memory and is reused from layer to layer.
class Observer {
 public:
  // The observation lives until the next call.
  const Observation& observe(const Measures& asked, const Cache& cache, const LayerVisit& visit);

 private:
  void see_window(const Measures& asked, const Cache& cache, const LayerVisit& visit, std::size_t n);
  void see_sums(const Measures& asked, const Cache& cache, const LayerVisit& visit, std::size_t n);
  void see_repeat(const Peaks& peaks, const Cache& cache, const LayerVisit& visit, std::size_t n);
  void see_keys(const Measures& asked, const Cache& cache, const LayerVisit& visit, std::size_t n);
  // The mean of n_rows rows [n] of each of n_heads heads, to row_.
  void average(const float* rows, std::size_t n_heads, std::size_t head_stride, std::size_t n_rows, std::size_t n);
  void stored_order(const Cache& cache, int layer, int head, std::size_t n_entries, const float* by_slot, float* out);

  Observation observation_;
  std::vector<float> mean_, variance_, last_row_, sums_, similarity_, peaks_;
  std::vector<double> entropy_;
  std::vector<float> row_;
};

}  // namespace lacake
