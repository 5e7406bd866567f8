#include "attention/composed.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <mutex>

namespace lacake::attention {
namespace {

// Memory of ours as a tensor [ne0, ne1, ne2], whose rows and planes lie so many bytes apart. No allocator touches it.
ggml_tensor* over(ggml_context* ctx, ggml_type type, const void* data, std::size_t ne0, std::size_t ne1,
                  std::size_t row_bytes, std::size_t ne2 = 1, std::size_t plane_bytes = 0) {
  ggml_tensor* t = ggml_new_tensor_3d(ctx, type, (std::int64_t)ne0, (std::int64_t)ne1, (std::int64_t)ne2);
  t->data = const_cast<void*>(data);
  t->nb[1] = row_bytes;
  t->nb[2] = plane_bytes > 0 ? plane_bytes : row_bytes * ne1;
  t->nb[3] = t->nb[2] * ne2;
  return t;
}

struct Attended {
  ggml_tensor* probabilities;  // [n_entries, n_q, group]
  ggml_tensor* out;            // [d_v, group, n_q]
};

// The matrix of a block [block, block], for as long as the program runs: graphs outlive who made them.
const float* mix_matrix(std::size_t block) {
  static std::array<std::once_flag, std::bit_width(kMostMixed)> made;
  static std::array<std::vector<float>, std::bit_width(kMostMixed)> matrices;
  const std::size_t i = (std::size_t)std::bit_width(block) - 1;
  std::call_once(made[i], [&] {
    for (std::size_t at = 0; at < block * block; ++at) {
      matrices[i].push_back((float)reference::mix_element(block, at / block, at % block));
    }
  });
  return matrices[i].data();
}

class Composer {
 public:
  Composer(ggml_context* ctx, ggml_cgraph* graph, const Shape& shape, const Rotate& rotate, DeviceSide* device)
      : ctx_(ctx), graph_(graph), shape_(shape), rotate_(rotate), device_(device) {}

  // Rows of K or V [d, n], where the graph runs.
  ggml_tensor* stored(ggml_type type, const void* data, std::size_t d, std::size_t n, std::size_t stride) {
    ggml_tensor* t = over(ctx_, type, data, d, n, stride);
    // Not ggml_backend_tensor_alloc: backends clear what follows a quantised tensor, and here that is the next row.
    if (device_) t->buffer = device_->rows();
    return t;
  }
  void store(ggml_tensor* from, ggml_tensor* to) { ggml_build_forward_expand(graph_, ggml_cpy(ctx_, from, to)); }

  // Rows of V, of K as the cache has them; the queries that meet these.
  void store_values(ggml_tensor* from, ggml_tensor* to) { store(is_mixed(to->type) ? mixed(from) : from, to); }
  void store_keys(ggml_tensor* from, ggml_tensor* to) {
    if (has_form(to->type) && shape_.key_form.center) from = ggml_sub(ctx_, from, channels(shape_.key_form.center));
    if (is_mixed(to->type)) {
      if (shape_.key_form.scale) from = ggml_mul(ctx_, from, channels(shape_.key_form.scale));
      from = mixed(from);
    }
    store(from, to);
  }
  ggml_tensor* queries(ggml_tensor* q) {
    if (shape_.key_form.scale) q = ggml_div(ctx_, q, channels(shape_.key_form.scale));
    return mixed(q);
  }

  // A table of this process [ne0, ne1], contiguous, that nodes read.
  ggml_tensor* table(ggml_type type, const void* data, std::size_t ne0, std::size_t ne1 = 1) {
    if (!device_) return over(ctx_, type, data, ne0, ne1, ne0 * ggml_type_size(type));
    ggml_tensor* t = ggml_new_tensor_2d(ctx_, type, (std::int64_t)ne0, (std::int64_t)ne1);
    ggml_set_input(t);
    device_->sends(t, data);
    return t;
  }

  // What nodes computed [n, n_rows, n_planes], to memory of this process whose rows and planes lie so many floats
  // apart.
  void report(ggml_tensor* from, float* to, std::size_t row_stride, std::size_t plane_stride, bool adds = false) {
    if (!device_) {
      const auto place = [&] {
        return over(ctx_, GGML_TYPE_F32, to, (std::size_t)from->ne[0], (std::size_t)from->ne[1],
                    row_stride * sizeof(float), (std::size_t)from->ne[2], plane_stride * sizeof(float));
      };
      return store(adds ? ggml_add(ctx_, from, place()) : from, place());
    }
    ggml_tensor* whole = ggml_cont(ctx_, from);
    ggml_set_output(whole);
    ggml_build_forward_expand(graph_, whole);
    device_->receives(whole, to, row_stride, plane_stride, adds);
  }

  // [d, n] f32; null where there are no rows.
  ggml_tensor* keys(const Rows& rows, ggml_type type) {
    const std::size_t d = (std::size_t)shape_.d_k;
    ggml_tensor* k = values(rows.k, rows.k_stride, rows.n, d, type);
    if (!k || !rows.rope_index) return k;
    if (is_mixed(type)) {
      k = mixed(k);
      if (shape_.key_form.scale) k = ggml_div(ctx_, k, channels(shape_.key_form.scale));
    }
    if (has_form(type) && shape_.key_form.center) k = ggml_add(ctx_, k, channels(shape_.key_form.center));
    ggml_tensor* at = table(GGML_TYPE_I32, rows.rope_index, rows.n);
    k = rotate_(ggml_reshape_3d(ctx_, k, shape_.d_k, 1, (std::int64_t)rows.n), at);
    return ggml_reshape_2d(ctx_, k, shape_.d_k, (std::int64_t)rows.n);
  }
  ggml_tensor* values(const void* data, std::size_t stride, std::size_t n, std::size_t d, ggml_type type) {
    return n == 0 ? nullptr : ggml_cast(ctx_, stored(type, data, d, n, stride), GGML_TYPE_F32);
  }
  ggml_tensor* channels(const float* of_head) { return table(GGML_TYPE_F32, of_head, (std::size_t)shape_.d_k); }
  // x [d, ...], its blocks times the matrix.
  ggml_tensor* mixed(ggml_tensor* x) {
    const std::size_t block = mix_block((std::size_t)x->ne[0]);
    const auto n = (std::int64_t)block;
    ggml_tensor* blocks = ggml_reshape_2d(ctx_, ggml_cont(ctx_, x), n, ggml_nelements(x) / n);
    ggml_tensor* y = ggml_mul_mat(ctx_, table(GGML_TYPE_F32, mix_matrix(block), block, block), blocks);
    return ggml_reshape_4d(ctx_, y, x->ne[0], x->ne[1], x->ne[2], x->ne[3]);
  }
  ggml_tensor* joined(ggml_tensor* a, ggml_tensor* b, int dimension) {
    return a ? ggml_concat(ctx_, a, b, dimension) : b;
  }

  //   q  [d_k, n_q, group]; k [d_k, n]; v [d_v, n]; mask [n, n_q] or null
  Attended attend(ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask) {
    ggml_tensor* x = ggml_mul_mat(ctx_, k, q);
    float scale = shape_.scale;
    if (shape_.softcap > 0) {
      x = ggml_tanh(ctx_, ggml_scale(ctx_, x, scale / shape_.softcap));
      scale = shape_.softcap;
    }
    x = ggml_soft_max_ext(ctx_, x, mask, scale, 0);
    if (shape_.sinks) {
      ggml_soft_max_add_sinks(x, table(GGML_TYPE_F32, shape_.sinks, (std::size_t)shape_.group));
    }
    ggml_tensor* out = ggml_mul_mat(ctx_, ggml_cont(ctx_, ggml_transpose(ctx_, v)), x);
    return {x, ggml_cont(ctx_, ggml_permute(ctx_, out, 0, 2, 1, 3))};
  }

 private:
  ggml_context* ctx_;
  ggml_cgraph* graph_;
  Shape shape_;
  const Rotate& rotate_;
  DeviceSide* device_;
};

// 0 where query `first` + row of the segment sees the entry, else minus infinity: [n, n_q].
std::vector<float> mask_of(const PrefillLayer& layer, const Rows& past, std::size_t n_fresh, std::size_t n_q) {
  const std::size_t n = past.n + n_fresh;
  std::vector<float> mask(n * n_q, -INFINITY);
  for (std::size_t j = 0; j < n_q; ++j) {
    const std::size_t own = past.n + layer.first + j;  // in the order of tokens
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = i < past.n && past.token_rank ? (std::size_t)past.token_rank[i] : i;
      if (at <= own && (layer.window == 0 || own - at < layer.window)) mask[j * n + i] = 0;
    }
  }
  return mask;
}

// What the queries of this chunk that are recorded saw; of entries after them nothing.
void record(Composer& composer, ggml_context* ctx, PrefillLayer& layer, std::size_t head, ggml_tensor* probabilities) {
  const auto n = (std::size_t)probabilities->ne[0], n_q = (std::size_t)probabilities->ne[1];
  const auto group = (std::size_t)probabilities->ne[2], stride = layer.n_entries;
  const std::size_t begin = std::max(layer.first, layer.record_from);
  if (begin >= layer.first + n_q) return;
  const std::size_t n_rows = layer.first + n_q - begin;
  float* to = layer.record + (head * group * layer.record_rows + begin - layer.record_from) * stride;
  for (std::size_t row = 0; row < group * n_rows; ++row) {
    float* at = to + (row / n_rows * layer.record_rows + row % n_rows) * stride;
    std::fill(at + n, at + stride, 0.0f);
  }
  ggml_tensor* rows =
      ggml_view_3d(ctx, probabilities, (std::int64_t)n, (std::int64_t)n_rows, (std::int64_t)group, probabilities->nb[1],
                   probabilities->nb[2], (begin - layer.first) * probabilities->nb[1]);
  composer.report(rows, to, stride, layer.record_rows * stride);
}

void add_sums(Composer& composer, ggml_context* ctx, PrefillLayer& layer, std::size_t head,
              ggml_tensor* probabilities) {
  const std::int64_t n = probabilities->ne[0], group = probabilities->ne[2];
  float* to = layer.sums + head * (std::size_t)group * layer.n_entries;
  ggml_tensor* by_entry = ggml_cont(ctx, ggml_permute(ctx, probabilities, 1, 0, 2, 3));
  ggml_tensor* added = ggml_reshape_2d(ctx, ggml_sum_rows(ctx, by_entry), n, group);
  composer.report(added, to, layer.n_entries, (std::size_t)group * layer.n_entries, /*adds*/ true);
}

}  // namespace

void DeviceSide::send() const {
  for (const Sent& s : sent_) ggml_backend_tensor_set(s.to, s.from, 0, ggml_nbytes(s.to));
}

void DeviceSide::receive() {
  for (const Received& r : received_) {
    const auto n = (std::size_t)r.from->ne[0], n_rows = (std::size_t)r.from->ne[1];
    values_.resize((std::size_t)ggml_nelements(r.from));
    ggml_backend_tensor_get(r.from, values_.data(), 0, ggml_nbytes(r.from));
    for (std::size_t row = 0; row < values_.size() / n; ++row) {
      float* to = r.to + row / n_rows * r.plane_stride + row % n_rows * r.row_stride;
      const float* from = values_.data() + row * n;
      for (std::size_t i = 0; i < n; ++i) to[i] = r.adds ? to[i] + from[i] : from[i];
    }
  }
}

ggml_tensor* composed_prefill(ggml_context* ctx, ggml_cgraph* graph, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                              PrefillLayer* layer, const Rotate& rotate, DeviceSide* device) {
  const Shape& shape = layer->shape;
  const std::size_t n_q = (std::size_t)q->ne[2], n_fresh = layer->first + n_q, group = (std::size_t)shape.group;
  const std::size_t d_k = (std::size_t)shape.d_k, d_v = (std::size_t)shape.d_v;
  const std::size_t k_row = ggml_row_size(shape.type_k, shape.d_k), v_row = ggml_row_size(shape.type_v, shape.d_v);
  ggml_tensor* out = nullptr;
  for (std::size_t head = 0; head < layer->past.size(); ++head) {
    Composer composer(ctx, graph, shape_of_head(shape, head), rotate, device);
    const Rows& past = layer->past[head];
    Rows fresh = {.k = layer->k + head * layer->capacity * k_row,
                  .v = layer->v + head * layer->capacity * v_row,
                  .k_stride = k_row,
                  .v_stride = v_row,
                  .n = n_fresh,
                  .rope_index = layer->fresh_index};
    const auto chunk = [&](ggml_tensor* t, std::size_t d) {
      return ggml_view_2d(ctx, t, (std::int64_t)d, (std::int64_t)n_q, t->nb[2], head * t->nb[1]);
    };
    composer.store_keys(chunk(k, d_k), composer.stored(shape.type_k, (const std::byte*)fresh.k + layer->first * k_row,
                                                       d_k, n_q, k_row));
    composer.store_values(chunk(v, d_v), composer.stored(shape.type_v, (const std::byte*)fresh.v + layer->first * v_row,
                                                         d_v, n_q, v_row));

    const std::size_t n = past.n + n_fresh;
    const bool as_before =
        head > 0 && layer->past[head - 1].n == past.n && layer->past[head - 1].token_rank == past.token_rank;
    if (!as_before) {
      layer->masks.push_back(mask_of(*layer, past, n_fresh, n_q));
    }
    ggml_tensor* queries = ggml_view_3d(ctx, q, (std::int64_t)d_k, (std::int64_t)group, (std::int64_t)n_q, q->nb[1],
                                        q->nb[2], head * group * q->nb[1]);
    queries = ggml_cont(ctx, ggml_permute(ctx, queries, 0, 2, 1, 3));
    Attended attended =
        composer.attend(layer->mixes_queries() ? composer.queries(queries) : queries,
                        composer.joined(composer.keys(past, shape.type_k), composer.keys(fresh, shape.type_k), 1),
                        composer.joined(composer.values(past.v, past.v_stride, past.n, d_v, shape.type_v),
                                        composer.values(fresh.v, v_row, n_fresh, d_v, shape.type_v), 1),
                        composer.table(GGML_TYPE_F32, layer->masks.back().data(), n, n_q));
    if (layer->record) record(composer, ctx, *layer, head, attended.probabilities);
    if (layer->sums) add_sums(composer, ctx, *layer, head, attended.probabilities);
    if (is_mixed(shape.type_v)) attended.out = composer.mixed(attended.out);
    out = composer.joined(out, attended.out, 1);
  }
  return ggml_reshape_2d(ctx, out, out->ne[0] * out->ne[1], out->ne[2]);
}

ggml_tensor* composed_decode(ggml_context* ctx, ggml_cgraph* graph, ggml_tensor* q, ggml_tensor* k_rotated,
                             ggml_tensor* k_plain, ggml_tensor* v, DecodeLayer* layer, const Rotate& rotate,
                             DeviceSide* device) {
  const Shape& shape = layer->shape;
  const std::size_t n_head_kv = (std::size_t)layer->n_head_kv, group = (std::size_t)shape.group;
  const std::size_t d_k = (std::size_t)shape.d_k, d_v = (std::size_t)shape.d_v;
  ggml_tensor *out = nullptr, *column = nullptr;
  for (std::size_t i = 0; i < layer->lanes.size(); ++i) {
    const DecodeLayer::Lane& lane = layer->lanes[i];
    const std::size_t session = i / n_head_kv, head = i % n_head_kv;
    Shape own = shape;
    if (lane.rows.rope_index) own.key_form = layer->plain_form;
    Composer composer(ctx, graph, shape_of_head(own, head), rotate, device);
    const auto row = [&](ggml_tensor* t, std::size_t d, std::size_t token) {
      return ggml_view_2d(ctx, t, (std::int64_t)d, 1, t->nb[1], token * t->nb[2] + head * t->nb[1]);
    };
    ggml_tensor* k =
        session < layer->n_rotated ? row(k_rotated, d_k, session) : row(k_plain, d_k, session - layer->n_rotated);
    composer.store_keys(k, composer.stored(lane.type_k, lane.new_k, d_k, 1, lane.rows.k_stride));
    composer.store_values(row(v, d_v, session), composer.stored(lane.type_v, lane.new_v, d_v, 1, lane.rows.v_stride));

    ggml_tensor* queries = ggml_view_3d(ctx, q, (std::int64_t)d_k, 1, (std::int64_t)group, q->nb[1], q->nb[1],
                                        session * q->nb[2] + head * group * q->nb[1]);
    Attended attended = composer.attend(
        lane.mixes_queries() ? composer.queries(queries) : queries, composer.keys(lane.rows, lane.type_k),
        composer.values(lane.rows.v, lane.rows.v_stride, lane.rows.n, d_v, lane.type_v), nullptr);
    if (lane.probabilities) {
      ggml_tensor* seen = attended.probabilities;
      if (lane.group_mean) {
        ggml_tensor* by_entry = ggml_cont(ctx, ggml_permute(ctx, seen, 1, 2, 0, 3));
        seen = ggml_reshape_3d(ctx, ggml_mean(ctx, by_entry), seen->ne[0], 1, 1);
      }
      composer.report(seen, lane.probabilities, lane.probabilities_stride, lane.probabilities_stride);
    }
    if (is_mixed(lane.type_v)) attended.out = composer.mixed(attended.out);
    column = composer.joined(head == 0 ? nullptr : column, attended.out, 1);
    if (head + 1 == n_head_kv) out = composer.joined(out, column, 2);
  }
  return ggml_reshape_2d(ctx, out, out->ne[0] * out->ne[1], out->ne[2]);
}

}  // namespace lacake::attention
