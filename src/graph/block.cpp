#include "graph/block.h"

namespace lacake {

ggml_tensor* BlockBuilder::embed(ggml_tensor* tokens) {
  return scaled(products_.rows(weights_.token_embedding(), tokens), h_.embedding_scale);
}

ggml_tensor* BlockBuilder::head(ggml_tensor* x) {
  ggml_tensor* logits = products_.multiply(weights_.output(), normed(x, weights_.output_norm()));
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

Columns BlockBuilder::normed(ggml_tensor* x, ggml_tensor* weight) const {
  if (!weight) return {.values = x};
  return {.values = norm(x, weight), .of = x, .weight = weight, .epsilon = h_.rms_epsilon};
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

ggml_tensor* BlockBuilder::hidden(const FeedForward& f, const Columns& x) {
  if (!f.gate.weight) return ggml_swiglu(graph_.context(), products_.multiply(f.up, x));
  const Linear both[] = {f.gate, f.up};
  const std::vector<ggml_tensor*> products = products_.multiply(both, x);
  return activated(products[0], products[1]);
}

ggml_tensor* BlockBuilder::added(ggml_tensor* x, ggml_tensor* y, ggml_tensor* after_norm) const {
  return ggml_add(graph_.context(), x, scaled(norm(y, after_norm), h_.residual_scale));
}

ggml_tensor* BlockBuilder::added_product(ggml_tensor* x, const Linear& linear, ggml_tensor* y,
                                         ggml_tensor* after_norm) {
  if (!after_norm && h_.residual_scale == 1) return products_.multiply(linear, {.values = y}, /*plus*/ x);
  return added(x, products_.multiply(linear, {.values = y}), after_norm);
}

BlockBuilder::Projected BlockBuilder::project(const LayerWeights& l, const Columns& x) {
  ggml_context* ctx = graph_.context();
  // Heads of y from its row `from` on; columns of y may lie apart.
  const auto heads = [&](ggml_tensor* y, std::int64_t d, std::int64_t n_heads, std::int64_t from = 0) {
    return ggml_view_3d(ctx, y, d, n_heads, y->ne[1], (std::size_t)d * sizeof(float), y->nb[1],
                        (std::size_t)from * sizeof(float));
  };
  Projected p;
  if (l.qkv.weight) {
    ggml_tensor* all = products_.multiply(l.qkv, x);
    const std::int64_t n_q = std::int64_t{h_.n_head} * h_.d_k, n_k = std::int64_t{h_.n_head_kv} * h_.d_k;
    p = {heads(all, h_.d_k, h_.n_head), heads(all, h_.d_k, h_.n_head_kv, n_q),
         heads(all, h_.d_v, h_.n_head_kv, n_q + n_k)};
  } else {
    const Linear each[] = {l.q, l.k, l.v};
    const std::vector<ggml_tensor*> products = products_.multiply(each, x);
    // A norm of the whole projection comes before its heads are told apart.
    const bool whole = h_.projection_norm;
    p.q = heads(norm(products[0], whole ? l.q_norm : nullptr), h_.d_k, h_.n_head);
    p.k = heads(norm(products[1], whole ? l.k_norm : nullptr), h_.d_k, h_.n_head_kv);
    p.v = heads(products[2], h_.d_v, h_.n_head_kv);
  }
  if (h_.head_norm) p.q = norm(p.q, l.q_norm), p.k = norm(p.k, l.k_norm);
  return p;
}

void BlockBuilder::rotate(const Projected& projected, ggml_tensor* positions, int kind, std::int64_t n_rotated,
                          Projections& p) const {
  ggml_context* ctx = graph_.context();
  ggml_tensor *q = projected.q, *k = projected.k;
  const std::int64_t n = q->ne[2];
  const std::size_t q_bytes = (std::size_t)h_.n_head * q->nb[1];
  const auto part_of = [&](ggml_tensor* heads, std::int64_t n_heads, std::size_t from) {
    return ggml_view_3d(ctx, heads, h_.d_k, n_heads, n, heads->nb[1], heads->nb[2], from);
  };
  // Where keys lie behind queries, both turn as one.
  const bool joined = q->view_src && q->view_src == k->view_src && k->view_offs == q->view_offs + q_bytes;
  if (joined && n_rotated == n) {
    ggml_tensor* both = rope(part_of(q, h_.n_head + h_.n_head_kv, 0), positions, kind);
    p.q = part_of(both, h_.n_head, 0);
    p.k_rotated = part_of(both, h_.n_head_kv, q_bytes);
    return;
  }
  p.q = rope(q, positions, kind);
  const auto tokens_of_k = [&](std::int64_t from, std::int64_t count) {
    if (count == n) return k;
    return ggml_view_3d(ctx, k, h_.d_k, h_.n_head_kv, count, k->nb[1], k->nb[2], (std::size_t)from * k->nb[2]);
  };
  if (n_rotated > 0) {
    ggml_tensor* at = n_rotated == n ? positions : ggml_view_1d(ctx, positions, n_rotated, 0);
    p.k_rotated = rope(tokens_of_k(0, n_rotated), at, kind);
  }
  if (n_rotated < n) p.k_plain = tokens_of_k(n_rotated, n - n_rotated);
}

ggml_tensor* BlockBuilder::block(int layer, ggml_tensor* x, ggml_tensor* positions, std::int64_t n_rotated,
                                 const AttentionNode& attention) {
  const LayerWeights& l = weights_.layer(layer);
  const Columns input = normed(x, l.attention_norm);
  const Projected projected = project(l, input);
  Projections p;
  p.input = input.values;
  p.q_plain = projected.q;
  p.k = projected.k;
  p.v = projected.v;
  rotate(projected, positions, h_.layers[(std::size_t)layer].rope, n_rotated, p);
  x = added_product(x, l.attention_output, attention(p), l.attention_after_norm);

  const Columns between = normed(x, l.ffn_norm);
  if (l.router.weight) return added(x, experts(l, between), l.ffn_after_norm);
  return added_product(x, l.ffn.down, hidden(l.ffn, between), l.ffn_after_norm);
}

}  // namespace lacake
