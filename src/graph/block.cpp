#include "graph/block.h"

namespace lacake {

ggml_tensor* BlockBuilder::embed(ggml_tensor* tokens) {
  return scaled(products_.rows(weights_.token_embedding(), tokens), h_.embedding_scale);
}

ggml_tensor* BlockBuilder::head(ggml_tensor* x) {
  ggml_tensor* logits = product(weights_.output(), norm(x, weights_.output_norm()));
  return capped(scaled(logits, h_.output_scale), h_.output_softcap);
}

ggml_tensor* BlockBuilder::scaled(ggml_tensor* x, float factor) const {
  return factor == 1 ? x : ggml_scale(graph_.context(), x, factor);
}

ggml_tensor* BlockBuilder::capped(ggml_tensor* x, float cap) const {
  ggml_context* ctx = graph_.context();
  return cap > 0 ? ggml_scale(ctx, ggml_tanh(ctx, ggml_scale(ctx, x, 1.0f / cap)), cap) : x;
}

// A norm that a layer does not have changes nothing.
ggml_tensor* BlockBuilder::norm(ggml_tensor* x, ggml_tensor* weight) const {
  ggml_context* ctx = graph_.context();
  return weight ? ggml_mul(ctx, ggml_rms_norm(ctx, x, h_.rms_epsilon), weight) : x;
}

ggml_tensor* BlockBuilder::product(const Linear& linear, ggml_tensor* x) {
  ggml_tensor* y = products_.multiply(linear.weight, x);
  return linear.bias ? ggml_add(graph_.context(), y, linear.bias) : y;
}

ggml_tensor* BlockBuilder::rope(ggml_tensor* x, ggml_tensor* positions, int kind) const {
  if (kind == kNoRope) return x;
  const RopeParameters& r = h_.ropes[(std::size_t)kind];
  return ggml_rope_ext(graph_.context(), x, positions, weights_.rope_factors(), h_.n_rot, h_.rope_mode, r.n_ctx_orig,
                       r.freq_base, r.freq_scale, r.ext_factor, r.attn_factor, r.beta_fast, r.beta_slow);
}

ggml_tensor* BlockBuilder::activated(ggml_tensor* gate, ggml_tensor* up) const {
  ggml_context* ctx = graph_.context();
  switch (h_.activation) {
    case Activation::kGelu:
      return ggml_geglu_split(ctx, gate, up);
    case Activation::kClampedSwiglu:
      return ggml_swiglu_oai(ctx, gate, up, 1.702f, 7.0f);
    case Activation::kSilu:
      break;
  }
  return ggml_swiglu_split(ctx, gate, up);
}

ggml_tensor* BlockBuilder::feed_forward(const FeedForward& f, ggml_tensor* x) {
  ggml_tensor* up = product(f.up, x);
  if (!f.gate.weight) return product(f.down, ggml_swiglu(graph_.context(), up));
  return product(f.down, activated(product(f.gate, x), up));
}

BlockBuilder::Projected BlockBuilder::project(const LayerWeights& l, ggml_tensor* x) {
  ggml_context* ctx = graph_.context();
  const std::int64_t n = x->ne[1], n_q = std::int64_t{h_.n_head} * h_.d_k, n_k = std::int64_t{h_.n_head_kv} * h_.d_k;
  Projected p;
  if (l.qkv.weight) {
    ggml_tensor* all = product(l.qkv, x);
    const auto part = [&](std::int64_t from, std::int64_t d, std::int64_t heads) {
      return ggml_view_3d(ctx, all, d, heads, n, (std::size_t)d * sizeof(float), all->nb[1],
                          (std::size_t)from * sizeof(float));
    };
    p = {part(0, h_.d_k, h_.n_head), part(n_q, h_.d_k, h_.n_head_kv), part(n_q + n_k, h_.d_v, h_.n_head_kv)};
  } else {
    // A norm of the whole projection comes before its heads are told apart.
    const bool whole = h_.projection_norm;
    p.q = ggml_reshape_3d(ctx, norm(product(l.q, x), whole ? l.q_norm : nullptr), h_.d_k, h_.n_head, n);
    p.k = ggml_reshape_3d(ctx, norm(product(l.k, x), whole ? l.k_norm : nullptr), h_.d_k, h_.n_head_kv, n);
    p.v = ggml_reshape_3d(ctx, product(l.v, x), h_.d_v, h_.n_head_kv, n);
  }
  if (h_.head_norm) p.q = norm(p.q, l.q_norm), p.k = norm(p.k, l.k_norm);
  return p;
}

ggml_tensor* BlockBuilder::block(int layer, ggml_tensor* x, ggml_tensor* positions, std::int64_t n_rotated,
                                 const AttentionNode& attention) {
  ggml_context* ctx = graph_.context();
  const LayerWeights& l = weights_.layer(layer);
  const int kind = h_.layers[(std::size_t)layer].rope;
  const std::int64_t n = x->ne[1];

  ggml_tensor* input = norm(x, l.attention_norm);
  const Projected projected = project(l, input);
  ggml_tensor* k = projected.k;
  Projections p;
  p.q_plain = projected.q;
  p.input = input;
  p.q = rope(projected.q, positions, kind);
  p.k = k;
  p.v = projected.v;
  const auto tokens_of_k = [&](std::int64_t from, std::int64_t count) {
    if (count == n) return k;
    return ggml_view_3d(ctx, k, h_.d_k, h_.n_head_kv, count, k->nb[1], k->nb[2], (std::size_t)from * k->nb[2]);
  };
  if (n_rotated > 0) {
    ggml_tensor* at = n_rotated == n ? positions : ggml_view_1d(ctx, positions, n_rotated, 0);
    p.k_rotated = rope(tokens_of_k(0, n_rotated), at, kind);
  }
  if (n_rotated < n) p.k_plain = tokens_of_k(n_rotated, n - n_rotated);

  ggml_tensor* attended = norm(product(l.attention_output, attention(p)), l.attention_after_norm);
  x = ggml_add(ctx, x, scaled(attended, h_.residual_scale));
  ggml_tensor* normed = norm(x, l.ffn_norm);
  ggml_tensor* fed = norm(l.router.weight ? experts(l, normed) : feed_forward(l.ffn, normed), l.ffn_after_norm);
  return ggml_add(ctx, x, scaled(fed, h_.residual_scale));
}

}  // namespace lacake
