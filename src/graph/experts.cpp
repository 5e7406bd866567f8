// The feed-forward networks of a mixture of experts.

#include <cmath>

#include "graph/block.h"

namespace lacake {
namespace {

// Rows of each token's chosen experts: matrices [n_in, n_out, n_expert], x [n_in, 1 or n_used, n] -> [n_out, n_used, n]
ggml_tensor* chosen_product(ggml_context* ctx, const Linear& of_all, ggml_tensor* x, ggml_tensor* chosen) {
  ggml_tensor* y = ggml_mul_mat_id(ctx, of_all.weight, x, chosen);
  return of_all.bias ? ggml_add_id(ctx, y, of_all.bias, chosen) : y;
}

}  // namespace

ggml_tensor* BlockBuilder::experts(const LayerWeights& l, const Columns& in) {
  ggml_context* ctx = graph_.context();
  ggml_tensor* x = in.values;
  const std::int64_t n = x->ne[1], n_used = h_.n_expert_used;
  ggml_tensor* logits = products_.multiply(l.router, in);  // [n_expert, n]
  ggml_tensor* scores = h_.softmax_over_chosen ? logits : ggml_soft_max(ctx, logits);
  ggml_tensor* chosen = ggml_argsort_top_k(ctx, scores, (int)n_used);  // [n_used, n]
  ggml_tensor* by_expert = ggml_reshape_3d(ctx, scores, 1, h_.n_expert, n);
  ggml_tensor* weights = ggml_reshape_2d(ctx, ggml_get_rows(ctx, by_expert, chosen), n_used, n);
  if (h_.softmax_over_chosen) {
    weights = ggml_soft_max(ctx, weights);
  } else {
    // Of what they got of the softmax over all; the least f16 instead of nothing, as libllama does.
    weights = ggml_div(ctx, weights, ggml_clamp(ctx, ggml_sum_rows(ctx, weights), 6.103515625e-5f, INFINITY));
  }

  ggml_tensor* each = ggml_reshape_3d(ctx, x, x->ne[0], 1, n);
  ggml_tensor* up = chosen_product(ctx, l.experts.up, each, chosen);
  ggml_tensor* gate = chosen_product(ctx, l.experts.gate, each, chosen);
  ggml_tensor* out = chosen_product(ctx, l.experts.down, activated(gate, up), chosen);  // [n_embd, n_used, n]
  out = ggml_mul(ctx, out, ggml_reshape_3d(ctx, weights, 1, n_used, n));

  ggml_tensor* sum = nullptr;
  for (std::int64_t i = 0; i < n_used; ++i) {
    ggml_tensor* one = ggml_view_2d(ctx, out, out->ne[0], n, out->nb[2], (std::size_t)i * out->nb[1]);
    sum = !sum ? one : ggml_add(ctx, sum, one);
  }
  if (n_used == 1) sum = ggml_cont(ctx, sum);
  if (!l.shared_expert.up.weight) return sum;
  return products_.multiply(l.shared_expert.down, {.values = hidden(l.shared_expert, in)}, /*plus*/ sum);
}

}  // namespace lacake
