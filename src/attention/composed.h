#pragma once

// Attention composed of ggml's own operations: for backends that have no kernels of ours, and on the CPU a second
// opinion about them that shares no line with them. It converts all keys and values to f32 and holds a logit for every
// query and entry of a KV head's group, so it costs several times the time and memory of the kernels.

#include <functional>

#include "attention/attention_op.h"

namespace lacake::attention {

// x [d_k, 1, n] f32, rotated at positions [n] i32, as keys of the layer turn.
using Rotate = std::function<ggml_tensor*(ggml_tensor* x, ggml_tensor* positions)>;

// As prefill_node and decode_node; nodes that write to memory of ours (the chunk's rows, recordings) join `graph` at
// once. The layers must be described before: what they hold is part of the graph.
ggml_tensor* composed_prefill(ggml_context*, ggml_cgraph* graph, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                              PrefillLayer*, const Rotate&);
ggml_tensor* composed_decode(ggml_context*, ggml_cgraph* graph, ggml_tensor* q, ggml_tensor* k_rotated,
                             ggml_tensor* k_plain, ggml_tensor* v, DecodeLayer*, const Rotate&);

// An upper bound of the nodes that a layer of so many lanes (KV heads times sessions) takes.
constexpr std::size_t composed_nodes(std::size_t n_lanes) { return 64 * n_lanes; }

}  // namespace lacake::attention
