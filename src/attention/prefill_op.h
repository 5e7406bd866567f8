#pragma once

// Attention of a prompt's chunk as nodes of a ggml graph: what divides the kernels' work among ggml's threads. A call's
// description must stay where it is until the graph has run.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/attention.h"
#include "attention/mix.h"
#include "attention/node_data.h"

namespace lacake::attention {

// What a chunk's queries, which repeat a part of the segment, say of it (attention/measure.h).
struct RepeatLayer {
  // Of the workspace's rows: the part is [first, last), the repeat's own begin at `own`.
  std::size_t first = 0, last = 0, own = 0;
  struct Asked {
    std::vector<std::vector<std::uint32_t>> past_sinks;  // [n_head_kv]
    std::size_t n_fresh_sinks = 0;
    bool of_output = false;    // probabilities are divided by the length of what the query was projected from
    float* peaks = nullptr;    // [n_entries, n_head] raised, to the base 2
    std::vector<float> norms;  // what one node says to the next
  };
  std::vector<Asked> asked;
  ggml_tensor* inputs = nullptr;  // [n_embd, n_q] that, for what is of_output
  std::atomic<std::size_t> next_norms{0}, next_peaks{0};
};

// A chunk of a segment's queries in one layer. Writes the chunk's K and V rows to the workspace, then attends.
struct PrefillLayer {
  Shape shape;  // its sinks: [n_head]
  Arithmetic arithmetic = Arithmetic::kF32;
  std::size_t window = 0;  // see PrefillCall
  std::vector<Rows> past;  // [n_head_kv]
  // Workspace: [n_head_kv] blocks of `capacity` rows; the chunk's rows go to [first, first + n_q).
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  std::size_t capacity = 0;
  const std::int32_t* fresh_index = nullptr;  // [capacity] where keys are kept unrotated
  std::size_t first = 0;
  // Recording, all heads: [n_entries, record_rows, n_head]; null: none.
  float* record = nullptr;
  std::size_t record_from = 0;
  std::size_t record_rows = 0;
  // Sums of probabilities, all heads: [n_entries, n_head]; null: none.
  float* sums = nullptr;
  RepeatLayer* repeat = nullptr;  // null: the chunk repeats nothing
  std::size_t n_entries = 0;      // past and whole segment: stride of `record`, `sums` and `peaks`
  Scratch* scratch = nullptr;
  std::vector<float> softmax;  // where there are `sums`: what one node says to the next
  std::atomic<std::size_t> next{0}, next_sums{0};
  std::vector<std::vector<float>> masks;  // what composed_prefill's nodes read

  // Mixed keys that are not mixed back in order to be rotated take mixed queries.
  bool mixes_queries() const { return is_mixed(shape.type_k) && !fresh_index; }
};

std::size_t prefill_scratch_bytes(const Shape&);

// Adds what `layer->repeat` asks for to a node [.., n_q] that attended and wrote the chunk's rows to the workspace:
// returns the same node, in place. Only reads rows in the host's memory.
//   q  as for prefill_node
ggml_tensor* repeat_nodes(ggml_context*, ggml_tensor* attended, ggml_tensor* q, PrefillLayer*);

// q [d_k, n_head, n_q] rotated; k [d_k, n_head_kv, n_q]; v [d_v, n_head_kv, n_q]; all f32. Heads of a token lie one
// behind the other, tokens may be further apart.
// Returns [d_v * n_head, n_q].
ggml_tensor* prefill_node(ggml_context*, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, PrefillLayer*);

}  // namespace lacake::attention
