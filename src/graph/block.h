#pragma once

// The transformer as ggml graphs: an embedding, decoder blocks, a head. A block is described by its weights: a tensor
// that a layer does not have is a step that its block does not take.

#include <functional>

#include "graph/graph.h"
#include "graph/matmul_nodes.h"
#include "model/architecture.h"
#include "model/weights.h"

namespace lacake {

// Queries, keys and values of some tokens in one layer, f32, heads apart.
//   q          [d_k, n_head, n_tokens] rotated; heads of a token lie one behind the other, tokens may be further apart
//   q_plain    the same, as projected
//   k_rotated  [d_k, n_head_kv, n_rotated]             the first tokens' keys, rotated; null if n_rotated = 0
//   k_plain    [d_k, n_head_kv, n_tokens - n_rotated]  the others', as projected; null if there are none
//   k          [d_k, n_head_kv, n_tokens]              all of them, as projected
//   v          [d_v, n_head_kv, n_tokens]
//   input      [n_embd, n_tokens]                      what all of them were projected from
struct Projections {
  ggml_tensor* q = nullptr;
  ggml_tensor* q_plain = nullptr;
  ggml_tensor* k_rotated = nullptr;
  ggml_tensor* k_plain = nullptr;
  ggml_tensor* k = nullptr;
  ggml_tensor* v = nullptr;
  ggml_tensor* input = nullptr;
};

// Makes the node that attends: Projections -> [d_v * n_head, n_tokens].
using AttentionNode = std::function<ggml_tensor*(const Projections&)>;

// Builds parts of the model into one graph.
class BlockBuilder {
 public:
  BlockBuilder(Graph& graph, const Hyperparameters& h, const Weights& weights, const MatmulPlan& products)
      : graph_(graph), h_(h), weights_(weights), products_(graph, weights, products) {}

  // tokens [n] i32 -> [n_embd, n]
  ggml_tensor* embed(ggml_tensor* tokens);
  // One decoder block: x [n_embd, n] -> [n_embd, n].
  //   positions  [n] i32: where each query stands, and each of the first n_rotated keys
  ggml_tensor* block(int layer, ggml_tensor* x, ggml_tensor* positions, std::int64_t n_rotated,
                     const AttentionNode& attention);
  // x [n_embd, n] -> logits [n_vocab, n]
  ggml_tensor* head(ggml_tensor* x);
  // x [d, heads, n] rotated at positions [n], as Hyperparameters::ropes[kind] says
  ggml_tensor* rope(ggml_tensor* x, ggml_tensor* positions, int kind) const;

 private:
  ggml_tensor* norm(ggml_tensor* x, ggml_tensor* weight) const;
  // The same for products, which may norm for themselves.
  Columns normed(ggml_tensor* x, ggml_tensor* weight) const;
  ggml_tensor* scaled(ggml_tensor* x, float factor) const;
  ggml_tensor* capped(ggml_tensor* x, float cap) const;
  struct Projected {
    ggml_tensor* q;  // [d_k, n_head, n]
    ggml_tensor* k;  // [d_k, n_head_kv, n]
    ggml_tensor* v;  // [d_v, n_head_kv, n]
  };
  Projected project(const LayerWeights& l, const Columns& x);
  // Makes p's queries and keys, rotated and plain.
  void rotate(const Projected& projected, ggml_tensor* positions, int kind, std::int64_t n_rotated,
              Projections& p) const;
  ggml_tensor* activated(ggml_tensor* gate, ggml_tensor* up) const;
  // What a feed-forward network's `down` is multiplied with: [n_ff, n].
  ggml_tensor* hidden(const FeedForward& f, const Columns& x);
  // x + residual_scale * (y, normed where a block norms what it adds).
  ggml_tensor* added(ggml_tensor* x, ggml_tensor* y, ggml_tensor* after_norm) const;
  ggml_tensor* added_product(ggml_tensor* x, const Linear& linear, ggml_tensor* y, ggml_tensor* after_norm);
  // x [n_embd, n] through the experts that the router chooses for each token (graph/experts.cpp)
  ggml_tensor* experts(const LayerWeights& l, const Columns& x);

  Graph& graph_;
  const Hyperparameters& h_;
  const Weights& weights_;
  MatmulNodes products_;
};

// An upper bound of the nodes that a block, or what comes before and after all of them, takes.
//   n_columns  that a product must give the same bits in any company (MatmulPlan::batch_invariant); 0: it need not
inline std::size_t nodes_per_block(const Hyperparameters& h, const MatmulPlan& plan, std::size_t n_columns) {
  constexpr std::size_t kProducts = 11, kOfAdapter = 8;
  // Where ggml multiplies columns one by one: for each a view, a product, and what puts it beside the others.
  const std::size_t one_by_one = plan.method == matmul::Method::kGgml ? 3 * n_columns : 0;
  return 96 + 2 * (std::size_t)h.n_expert_used + kProducts * (plan.loras.size() * kOfAdapter + one_by_one);
}

}  // namespace lacake
