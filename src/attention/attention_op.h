#pragma once

// Attention as nodes of a ggml graph: what divides the kernels' work among ggml's threads. A call's description must
// stay where it is until the graph has run.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention/attention.h"
#include "attention/mix.h"

namespace lacake::attention {

// Scratch for every thread of a graph, as one block.
class Scratch {
 public:
  void reserve(int n_threads, std::size_t bytes_each);
  std::span<std::byte> of(int thread);
  std::uint64_t bytes() const { return memory_.size(); }

 private:
  std::vector<std::byte> memory_;
  std::size_t each_ = 0;
};

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

// q [d_k, n_head, n_q] rotated; k [d_k, n_head_kv, n_q]; v [d_v, n_head_kv, n_q]; all f32, contiguous.
// Returns [d_v * n_head, n_q].
ggml_tensor* prefill_node(ggml_context*, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, PrefillLayer*);

// One query for each of several sessions in one layer. Sessions may store their rows in different types.
struct DecodeLayer {
  Shape shape;         // with the first lane's types; its sinks: [n_head]; its key_form: of lanes without a rope_index
  KeyForm plain_form;  // of lanes with one
  int n_head_kv = 0;
  struct Lane {
    Rows rows;  // the new token's included
    ggml_type type_k = GGML_TYPE_F16;
    ggml_type type_v = GGML_TYPE_F16;
    Arithmetic arithmetic = Arithmetic::kF32;
    std::byte* new_k = nullptr;  // where its rows are written
    std::byte* new_v = nullptr;
    float* probabilities = nullptr;  // [probabilities_stride, group] or null: not asked for
    std::size_t probabilities_stride = 0;
    bool group_mean = false;      // the first column becomes the mean of the group's, the others mean nothing
    std::size_t first_piece = 0;  // of all lanes' pieces of kDecodePiece rows
    std::size_t n_pieces = 0;

    bool mixes_queries() const { return is_mixed(type_k) && !rows.rope_index; }
  };
  std::vector<Lane> lanes;    // [n_head_kv, n_sessions]
  std::size_t n_rotated = 0;  // the first sessions store rotated keys, the others unrotated ones
  std::vector<float>* partials = nullptr;
  Scratch* scratch = nullptr;

  // Sets the lanes' pieces and makes the layer ready for a run: to be called before each, whenever lanes have changed
  // or not. Returns the floats that `partials` must hold.
  std::size_t cut();

  // All pieces in the order in which they are taken: those of a session's heads that cover the same rows follow each
  // other, so that the angles of their positions are near.
  struct Item {
    std::size_t lane, piece;
  };
  std::vector<Item> items;
  // While it runs: the next piece that nobody has taken, and of each lane the pieces that are not done.
  std::atomic<std::size_t> next{0};
  std::unique_ptr<std::atomic<std::size_t>[]> left;  // [lanes]

 private:
  std::size_t n_left_ = 0;
};

std::size_t decode_scratch_bytes(const Shape&);

// q [d_k, n_head, n]; k_rotated [d_k, n_head_kv, n_rotated] or null; k_plain [d_k, n_head_kv, n - n_rotated] or null;
// v [d_v, n_head_kv, n]. Returns [d_v * n_head, n].
ggml_tensor* decode_node(ggml_context*, ggml_tensor* q, ggml_tensor* k_rotated, ggml_tensor* k_plain, ggml_tensor* v,
                         DecodeLayer*);

}  // namespace lacake::attention
