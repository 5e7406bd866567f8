#include "graph/block.h"

namespace lacake {

ggml_tensor* BlockBuilder::embed(ggml_tensor* tokens) { return products_.rows(weights_.token_embedding(), tokens); }

ggml_tensor* BlockBuilder::head(ggml_tensor* x) {
  return products_.multiply(weights_.output(), norm(x, weights_.output_norm()));
}

ggml_tensor* BlockBuilder::norm(ggml_tensor* x, ggml_tensor* weight) const {
  ggml_context* ctx = graph_.context();
  return ggml_mul(ctx, ggml_rms_norm(ctx, x, h_.rms_epsilon), weight);
}

ggml_tensor* BlockBuilder::product(const Linear& linear, ggml_tensor* x) {
  ggml_tensor* y = products_.multiply(linear.weight, x);
  return linear.bias ? ggml_add(graph_.context(), y, linear.bias) : y;
}

ggml_tensor* BlockBuilder::rope(ggml_tensor* x, ggml_tensor* positions) const {
  return ggml_rope_ext(graph_.context(), x, positions, weights_.rope_factors(), h_.n_rot, h_.rope_mode,
                       /*n_ctx_orig*/ 0, h_.rope_freq_base, h_.rope_freq_scale, /*ext_factor*/ 0, /*attn_factor*/ 1,
                       /*beta_fast*/ 0, /*beta_slow*/ 0);
}

ggml_tensor* BlockBuilder::feed_forward(const LayerWeights& l, ggml_tensor* x) {
  ggml_context* ctx = graph_.context();
  return product(l.down, ggml_swiglu_split(ctx, product(l.gate, x), product(l.up, x)));
}

ggml_tensor* BlockBuilder::block(int layer, ggml_tensor* x, ggml_tensor* positions, std::int64_t n_rotated,
                                 const AttentionNode& attention) {
  ggml_context* ctx = graph_.context();
  const LayerWeights& l = weights_.layer(layer);
  const std::int64_t n = x->ne[1];

  ggml_tensor* normed = norm(x, l.attention_norm);
  Projections p;
  p.q = rope(ggml_reshape_3d(ctx, product(l.q, normed), h_.d_k, h_.n_head, n), positions);
  ggml_tensor* k = ggml_reshape_3d(ctx, product(l.k, normed), h_.d_k, h_.n_head_kv, n);
  p.v = ggml_reshape_3d(ctx, product(l.v, normed), h_.d_v, h_.n_head_kv, n);
  const auto tokens_of_k = [&](std::int64_t from, std::int64_t count) {
    if (count == n) return k;
    return ggml_view_3d(ctx, k, h_.d_k, h_.n_head_kv, count, k->nb[1], k->nb[2], (std::size_t)from * k->nb[2]);
  };
  if (n_rotated > 0) {
    ggml_tensor* at = n_rotated == n ? positions : ggml_view_1d(ctx, positions, n_rotated, 0);
    p.k_rotated = rope(tokens_of_k(0, n_rotated), at);
  }
  if (n_rotated < n) p.k_plain = tokens_of_k(n_rotated, n - n_rotated);

  x = ggml_add(ctx, x, product(l.attention_output, attention(p)));
  return ggml_add(ctx, x, feed_forward(l, norm(x, l.ffn_norm)));
}

}  // namespace lacake
