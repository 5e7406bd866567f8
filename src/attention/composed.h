#pragma once

// Attention composed of ggml's own operations: for backends that have no kernels of ours, and on the CPU a second
// opinion about them that shares no line with them. It converts all keys and values to f32 and holds a logit for every
// query and entry of a KV head's group, so it costs several times the time and memory of the kernels.

#include <cstddef>
#include <functional>
#include <vector>

#include "attention/decode_op.h"
#include "attention/prefill_op.h"
#include "ggml-backend.h"

namespace lacake::attention {

// x [d_k, 1, n] f32, rotated at positions [n] i32, as keys of the layer turn.
using Rotate = std::function<ggml_tensor*(ggml_tensor* x, ggml_tensor* positions)>;

// What a graph needs that runs on a device with memory of its own. Rows of K and V lie there: `Rows`, the chunk's rows
// and a lane's new ones are then addresses in `rows`. All else that a layer's description points to is this process's
// memory and travels: it is sent once the graph has its memory, and what nodes wrote is received when it has run.
class DeviceSide {
 public:
  // `rows` lives as long as the graph.
  explicit DeviceSide(ggml_backend_buffer_t rows) : rows_(rows) {}

  void send() const;
  void receive();

  ggml_backend_buffer_t rows() const { return rows_; }
  void sends(ggml_tensor* to, const void* from) { sent_.push_back({to, from}); }
  // `from` [n, n_rows, n_planes] f32, contiguous; rows and planes lie so many floats apart in `to`. `adds`: to what is
  // there.
  void receives(ggml_tensor* from, float* to, std::size_t row_stride, std::size_t plane_stride, bool adds) {
    received_.push_back({from, to, row_stride, plane_stride, adds});
  }

 private:
  struct Sent {
    ggml_tensor* to;
    const void* from;
  };
  struct Received {
    ggml_tensor* from;
    float* to;
    std::size_t row_stride, plane_stride;
    bool adds;
  };
  ggml_backend_buffer_t rows_;
  std::vector<Sent> sent_;
  std::vector<Received> received_;
  std::vector<float> values_;
};

// As prefill_node and decode_node; nodes that write to memory of ours (the chunk's rows, recordings) join `graph` at
// once. The layers must be described before: what they hold is part of the graph. `device` null: the graph runs on the
// CPU, on memory of ours.
ggml_tensor* composed_prefill(ggml_context*, ggml_cgraph* graph, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                              PrefillLayer*, const Rotate&, DeviceSide* device = nullptr);
ggml_tensor* composed_decode(ggml_context*, ggml_cgraph* graph, ggml_tensor* q, ggml_tensor* k_rotated,
                             ggml_tensor* k_plain, ggml_tensor* v, DecodeLayer*, const Rotate&,
                             DeviceSide* device = nullptr);

// An upper bound of the nodes that a layer of so many lanes (KV heads times sessions) takes.
constexpr std::size_t composed_nodes(std::size_t n_lanes) { return 64 * n_lanes; }

}  // namespace lacake::attention
