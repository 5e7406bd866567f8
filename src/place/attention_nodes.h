#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "attention/attention_method.h"
#include "attention/decode_op.h"
#include "attention/prefill_op.h"
#include "graph/block.h"
#include "graph/graph.h"

namespace lacake {

// How a place attends: makes the node (or nodes) of a graph that read cached rows, write new ones and record what
// policies asked for. What is read lies in a layer's description (attention/prefill_op.h, decode_op.h), which must stay
// where it is until the graph has run.
class AttentionNodes {
 public:
  virtual ~AttentionNodes() = default;

  // x [d_k, 1, n] f32, rotated at positions [n] i32, as keys of the layer are.
  using Rotate = std::function<ggml_tensor*(ggml_tensor* x, ggml_tensor* positions)>;

  // One chunk of a prompt in one layer. `keys` are those that attention reads: rotated or as projected.
  // Returns [d_v * n_head, n].
  virtual ggml_tensor* prefill(Graph&, const Projections&, ggml_tensor* keys, attention::PrefillLayer*,
                               const Rotate&) const = 0;
  // One token of several sessions in one layer. Returns [d_v * n_head, n].
  virtual ggml_tensor* decode(Graph&, const Projections&, attention::DecodeLayer*, const Rotate&) const = 0;

  // An upper bound of the nodes that one layer over so many lanes (KV heads times sessions) takes.
  virtual std::size_t n_nodes(std::size_t n_lanes) const = 0;
  // Whether a graph reads its layers' descriptions when it runs, so that the same graph can run again over other rows.
  // If not, what they hold is part of the graph, which is then built for each run.
  virtual bool graph_outlives_rows() const = 0;

  // What is multiplied in, for entries of these types.
  virtual attention::Arithmetic arithmetic(ggml_type type_k, ggml_type type_v) const = 0;
  // For people: the instruction set in use, and the arithmetic. "ggml" for both where ggml attends.
  struct InUse {
    std::string instruction_set;
    std::string arithmetic;
  };
  virtual InUse in_use(ggml_type type_k, ggml_type type_v) const = 0;
};

std::unique_ptr<AttentionNodes> make_attention_nodes(attention::Method);

}  // namespace lacake
