#pragma once

// The transformer as ggml graphs: an embedding, decoder blocks, a head. A block is described by its weights: a tensor
// that a layer does not have is a step that its block does not take.

#include <functional>

#include "graph/compute.h"
#include "model/architecture.h"
#include "model/weights.h"

namespace lacake {

// Queries, keys and values of some tokens in one layer, f32, heads apart.
//   q          [d_k, n_head, n_tokens] rotated
//   k_rotated  [d_k, n_head_kv, n_rotated]             the first tokens' keys, rotated; null if n_rotated = 0
//   k_plain    [d_k, n_head_kv, n_tokens - n_rotated]  the others', as projected; null if there are none
//   v          [d_v, n_head_kv, n_tokens]
struct Projections {
  ggml_tensor* q = nullptr;
  ggml_tensor* k_rotated = nullptr;
  ggml_tensor* k_plain = nullptr;
  ggml_tensor* v = nullptr;
};

// Makes the node that attends: Projections -> [d_v * n_head, n_tokens].
using AttentionNode = std::function<ggml_tensor*(const Projections&)>;

// Builds parts of the model into one graph.
class BlockBuilder {
 public:
  // `column_by_column`: each token's products run as if it were alone, so that a batch of sessions gives bit for bit
  // what each gives by itself. Rows of a weight are still read once for all columns.
  BlockBuilder(Graph& graph, const Hyperparameters& h, const Weights& weights, bool column_by_column)
      : graph_(graph), h_(h), weights_(weights), column_by_column_(column_by_column) {}

  // tokens [n] i32 -> [n_embd, n]
  ggml_tensor* embed(ggml_tensor* tokens) const;
  // One decoder block: x [n_embd, n] -> [n_embd, n].
  //   positions  [n] i32: where each query stands, and each of the first n_rotated keys
  ggml_tensor* block(int layer, ggml_tensor* x, ggml_tensor* positions, std::int64_t n_rotated,
                     const AttentionNode& attention) const;
  // x [n_embd, n] -> logits [n_vocab, n]
  ggml_tensor* head(ggml_tensor* x) const;
  // x [d, heads, n] rotated at positions [n]
  ggml_tensor* rope(ggml_tensor* x, ggml_tensor* positions) const;

 private:
  ggml_tensor* norm(ggml_tensor* x, ggml_tensor* weight) const;
  ggml_tensor* product(const Linear& linear, ggml_tensor* x) const;
  ggml_tensor* product(ggml_tensor* weight, ggml_tensor* x) const;
  ggml_tensor* feed_forward(const LayerWeights& l, ggml_tensor* x) const;

  Graph& graph_;
  const Hyperparameters& h_;
  const Weights& weights_;
  bool column_by_column_;
};

// An upper bound of the nodes that a block takes.
inline constexpr std::size_t kNodesPerBlock = 64;

}  // namespace lacake
