#pragma once

// Attention of a step's tokens as a node of a ggml graph: what divides the kernels' work among ggml's threads. A call's
// description must stay where it is until the graph has run.

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "attention/attention.h"
#include "attention/mix.h"
#include "attention/node_data.h"

namespace lacake::attention {

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
