#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "attention/node_data.h"
#include "cache/cache.h"
#include "engine/observe.h"
#include "engine/output_grams.h"
#include "lacake/policy_author.h"
#include "model/architecture.h"
#include "place/workers.h"

namespace lacake {

// What a prompt's entries are measured by beside recorded probabilities: norms of their values, the window's peak,
// expected attention. One layer at a time, for all that watch the pass: what several ask for alike is measured once.
//
//     EntryMeasures measures(hyperparameters, asked, n_entries, has_past, threads);
//     measures.place(memory);                   // measures.floats() of it
//     measures.add_queries(chunk, head);        // while the layer's chunks run
//     measures.measure(layer, ...);             // divided among the engine's threads
//     measures.show(asked[i], observation);     // in stored order
class EntryMeasures {
 public:
  EntryMeasures() = default;
  // Layout of what `asked` need of a layer of so many entries. `past`: some of them are from before the segment.
  EntryMeasures(const Hyperparameters& h, std::span<const Measures> asked, std::size_t n_entries, bool past,
                int threads);

  std::size_t floats() const { return floats_; }
  void place(float* memory);

  // Queries as projected, of tokens `first_token` and on: token i's of head h at q + h * head_stride + i *
  // token_stride.
  struct Queries {
    const float* q = nullptr;
    std::size_t head_stride = 0, token_stride = 0;  // floats
    std::size_t n = 0;
    std::int64_t first_token = 0;
  };
  bool wants_queries() const { return !expected_.empty(); }
  // Of one head; different heads on different threads.
  void add_queries(const Queries& chunk, std::size_t head);
  // When all heads have them.
  void added(const Queries& chunk);

  struct Layer {
    int layer = 0;
    const Cache* cache = nullptr;
    attention::Shape shape;
    SegmentRows fresh;                          // as attention reads them
    const std::int32_t* fresh_index = nullptr;  // where their keys are rotated when they are read
    bool rotates_past = false;                  // likewise
    Recording recording;
    std::size_t n_probe = 0;
  };
  // The mean rotation of so many positions to come.
  using Turn = std::function<attention::Rope(int positions)>;
  //   output  asked for where a norm needs it
  using Output = std::function<OutputProjection()>;
  void measure(const Layer& layer, const Turn& turn, const Output& output, OutputGrams& grams, Workers& workers,
               attention::Scratch& scratch);

  void show(const Measures& asked, Observation& seen) const;

 private:
  struct Norm {
    ValueNorm kind;
    bool group_mean;
    std::size_t n_columns = 0;
    float* at = nullptr;  // [n_entries, n_columns]
    bool projected() const { return kind != ValueNorm::kPlain; }
  };
  struct Peak {
    std::size_t window;
    float* at = nullptr;  // [n_entries, n_head_kv]
  };
  struct Expected {
    int positions;
    std::int64_t sinks;
    std::size_t n_queries = 0;
    float* queries = nullptr;  // [query_floats(d_k), n_head]
    float* at = nullptr;       // [n_entries, n_head_kv]
  };
  class Entries;
  std::int64_t skipped(const Expected& e, const Queries& chunk) const;
  // Of entries begin .. end - 1 of a KV head. `scratch`: of the thread's attention, which is larger.
  void see_values(const Entries& entries, std::size_t head, std::size_t begin, std::size_t end, const float* grams,
                  std::span<float> scratch);
  void see_keys(const Entries& entries, const Expected& e, std::size_t head, std::size_t begin, std::size_t end,
                std::span<float> scratch);
  void expect(const Entries& entries, const Expected& e, std::size_t head);
  void add_output_sums(const OutputProjection& output, std::span<const Entries> entries, Workers& workers,
                       attention::Scratch& scratch);
  void see_peaks(const Entries& entries, const Layer& layer, std::size_t head, float* row);

  const Hyperparameters* h_ = nullptr;
  std::size_t n_entries_ = 0, floats_ = 0;
  std::vector<Norm> norms_;
  std::vector<Peak> peaks_;
  std::vector<Expected> expected_;
  float* logits_ = nullptr;       // [n_entries, n_head]
  float* output_rows_ = nullptr;  // [n_head * d_v, OutputProjection::kAtOnce]
  float* peak_rows_ = nullptr;    // [n_entries, threads]
};

}  // namespace lacake
