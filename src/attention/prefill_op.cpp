#include "attention/prefill_op.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "attention/layout.h"
#include "attention/measure.h"
#include "attention/round.h"

namespace lacake::attention {
namespace {

// Queries of one head group that are attended together: a tile of keys is converted once for all of them. At most as
// many as leave what they need and what they sum up in L2.
constexpr std::size_t kQueryBlocks[] = {256, 128, 64};
std::size_t largest_query_block(const Shape& shape) {
  constexpr std::size_t kBytes = std::size_t{400} << 10;
  const std::size_t each = (std::size_t)shape.group * (std::size_t)(shape.d_k + shape.d_v) * sizeof(float);
  for (const std::size_t block : kQueryBlocks) {
    if (block * each <= kBytes) return block;
  }
  return kQueryBlocks[std::size(kQueryBlocks) - 1];
}

// Of these, the largest that leaves each thread three pieces of work, so that all end together.
std::size_t query_block(const Shape& shape, std::size_t n_q, std::size_t n_heads, std::size_t n_threads) {
  const std::size_t largest = largest_query_block(shape);
  for (const std::size_t block : kQueryBlocks) {
    if (block <= largest && n_heads * (n_q / block) >= 3 * n_threads) return block;
  }
  return kQueryBlocks[std::size(kQueryBlocks) - 1];
}

// Queries that say how the chunk's keys are rounded (round.h): so many of them are as good as all.
constexpr std::size_t kWeighing = 128;

// M of each KV head: [d_k, d_k, n_head_kv].
void weigh_chunk(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const auto& layer = *(const PrefillLayer*)userdata;
  const ggml_tensor* q = dst->src[0];
  const auto d_k = (std::size_t)layer.shape.d_k, group = (std::size_t)layer.shape.group;
  const std::int64_t each = std::max<std::int64_t>(1, q->ne[2] * layer.shape.group / (std::int64_t)kWeighing);
  std::vector<float> queries;
  for (std::size_t head = (std::size_t)ith; head < (std::size_t)dst->ne[2]; head += (std::size_t)nth) {
    queries.clear();
    for (std::int64_t j = 0; j < q->ne[2]; j += each) {
      const float* from = row_of(q, (std::int64_t)(head * group), j);
      queries.insert(queries.end(), from, from + group * d_k);
    }
    queries_to_form(layer.shape.key_form.of_head(head, d_k), queries.data(), d_k, queries.size() / d_k);
    weigh(queries.data(), queries.size() / d_k, d_k, d_k, kOthersOfChunk, (float*)dst->data + head * d_k * d_k);
  }
}

// Of one column, in double.
float length_of(const ggml_tensor& columns, std::size_t i) {
  const auto* x = (const float*)((const char*)columns.data + i * columns.nb[1]);
  double squares = 0;
  for (std::int64_t d = 0; d < columns.ne[0]; ++d) squares += (double)x[d] * x[d];
  return (float)std::sqrt(squares);
}

// Query j of all heads, as its keys are stored: to column j of [d_k, n_head, n_q].
void mix_query(const PrefillLayer& layer, const ggml_tensor* q, std::int64_t j, ggml_tensor* to) {
  auto* mixed = (float*)((char*)to->data + j * (std::int64_t)to->nb[2]);
  std::copy_n(row_of(q, 0, j), to->ne[0] * to->ne[1], mixed);
  const auto d_k = (std::size_t)to->ne[0], group = (std::size_t)layer.shape.group;
  for (std::size_t h = 0; h < layer.past.size(); ++h) {
    queries_to_form(layer.shape.key_form.of_head(h, d_k), mixed + h * group * d_k, d_k, group);
  }
}

// Where keys are mixed, its result is the mixed queries [d_k, n_head, n_q].
void store_chunk(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const auto& layer = *(const PrefillLayer*)userdata;
  const ggml_tensor *k = dst->src[0], *v = dst->src[1], *q = dst->src[2], *metrics = dst->src[3];
  const std::int64_t n_head_kv = k->ne[1], n_q = k->ne[2];
  const std::size_t k_row = ggml_row_size(layer.shape.type_k, layer.shape.d_k);
  const std::size_t v_row = ggml_row_size(layer.shape.type_v, layer.shape.d_v);
  for (std::int64_t j = ith; j < n_q; j += nth) {
    if (layer.mixes_queries()) mix_query(layer, q, j, dst);
    for (std::int64_t h = 0; h < n_head_kv; ++h) {
      const std::size_t row = (std::size_t)h * layer.capacity + layer.first + (std::size_t)j;
      const float* metric = metrics ? row_of(metrics, 0, h) : nullptr;
      store_key(row_of(k, h, j), layer.shape.d_k, layer.shape.type_k,
                layer.shape.key_form.of_head((std::size_t)h, (std::size_t)layer.shape.d_k), metric,
                layer.k + row * k_row);
      store_row(row_of(v, h, j), layer.shape.d_v, layer.shape.type_v, layer.v + row * v_row);
    }
  }
}

// Queries from .. from + n - 1 of the chunk, of one KV head.
PrefillCall call_of(const PrefillLayer& layer, const ggml_tensor* q, std::size_t head, std::size_t from,
                    std::size_t n) {
  const std::size_t group = (std::size_t)layer.shape.group, d_k = (std::size_t)layer.shape.d_k;
  const std::size_t k_row = ggml_row_size(layer.shape.type_k, layer.shape.d_k);
  const std::size_t v_row = ggml_row_size(layer.shape.type_v, layer.shape.d_v);
  const std::size_t q_stride = (std::size_t)q->nb[2] / sizeof(float), seen = layer.first + from + n;
  return {.shape = shape_of_head(layer.shape, head),
          .past = layer.past[head],
          .fresh = {.k = layer.k + head * layer.capacity * k_row,
                    .v = layer.v + head * layer.capacity * v_row,
                    .k_stride = k_row,
                    .v_stride = v_row,
                    .n = layer.record || layer.sums || layer.repeat ? layer.n_entries - layer.past[head].n : seen,
                    .rope_index = layer.fresh_index},
          .first = layer.first + from,
          .n_q = n,
          .q = (const float*)q->data + from * q_stride + head * group * d_k,
          .q_stride = q_stride,
          .window = layer.window,
          .arithmetic = layer.arithmetic};
}

void attend_chunk(ggml_tensor* dst, int ith, int nth, void* userdata) {
  auto& layer = *(PrefillLayer*)userdata;
  const ggml_tensor* q = dst->src[0];
  const std::size_t n_q = (std::size_t)q->ne[2], n_head_kv = layer.past.size();
  const std::size_t group = (std::size_t)layer.shape.group, d_v = (std::size_t)layer.shape.d_v;
  const std::size_t block = query_block(layer.shape, n_q, n_head_kv, (std::size_t)nth),
                    n_blocks = (n_q + block - 1) / block;
  // Late blocks see more keys: they go first, so that threads end together.
  for (std::size_t item; (item = layer.next.fetch_add(1)) < n_head_kv * n_blocks;) {
    const std::size_t head = item % n_head_kv;
    const std::size_t from = (n_blocks - 1 - item / n_head_kv) * block, n = std::min(block, n_q - from);
    PrefillCall call = call_of(layer, q, head, from, n);
    call.out_stride = (std::size_t)dst->ne[0];
    call.out = (float*)dst->data + from * call.out_stride + head * group * d_v;
    if (layer.record) {
      call.record = layer.record + head * group * layer.record_rows * layer.n_entries;
      call.record_from = layer.record_from;
      call.record_rows = layer.record_rows;
    }
    if (layer.sums) call.softmax = layer.softmax.data() + 2 * group * (head * n_q + from);
    prefill(call, layer.scratch->of(ith));
    for (std::size_t j = 0; j < n && is_mixed(layer.shape.type_v); ++j) mix(call.out + j * call.out_stride, d_v, group);
  }
}

// Leaves what attend_chunk wrote as it is.
void accumulate_chunk(ggml_tensor*, const ggml_tensor* attended, int ith, int nth, void* userdata) {
  auto& layer = *(PrefillLayer*)userdata;
  const ggml_tensor* q = attended->src[0];
  const std::size_t n_q = (std::size_t)q->ne[2], n_head_kv = layer.past.size();
  const std::size_t group = (std::size_t)layer.shape.group;
  const std::size_t each = accumulated_keys(layer.shape);
  // Softmax lies as the blocks of queries that attend_chunk was divided into.
  const std::size_t block = query_block(layer.shape, n_q, n_head_kv, (std::size_t)nth);
  std::size_t item = 0, mine = layer.next_sums.fetch_add(1);
  for (std::size_t head = 0; head < n_head_kv; ++head) {
    const auto add_parts = [&](bool past, std::size_t n) {
      for (std::size_t begin = 0; begin < n; begin += each, ++item) {
        if (item != mine) continue;
        mine = layer.next_sums.fetch_add(1);
        for (std::size_t from = 0; from < n_q; from += block) {
          const PrefillCall call = call_of(layer, q, head, from, std::min(block, n_q - from));
          const Tile keys{.rows = past ? &call.past : &call.fresh,
                          .begin = begin,
                          .n = std::min(each, n - begin),
                          .entry = begin + (past ? 0 : call.past.n)};
          accumulate_probabilities(call, keys, layer.softmax.data() + 2 * group * (head * n_q + from),
                                   layer.sums + head * group * layer.n_entries, layer.scratch->of(ith));
        }
      }
    };
    add_parts(true, layer.past[head].n);
    add_parts(false, layer.first + n_q);
  }
}

// As keys are stored.
void mix_queries(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const auto& layer = *(const PrefillLayer*)userdata;
  const ggml_tensor* q = dst->src[0];
  for (std::int64_t j = ith; j < dst->ne[2]; j += nth) mix_query(layer, q, j, dst);
}

// Keys of which one thread finds the peaks at a time: few, so that a part of 2,000 tokens keeps many threads busy.
constexpr std::size_t kPeakKeys = 256;

// dst is what attended, src[1] the queries.
void find_norms(ggml_tensor* dst, int ith, int nth, void* userdata) {
  auto& layer = *(PrefillLayer*)userdata;
  RepeatLayer& repeat = *layer.repeat;
  const ggml_tensor* q = dst->src[1];
  const std::size_t n_q = (std::size_t)q->ne[2], n_head_kv = layer.past.size();
  const std::size_t group = (std::size_t)layer.shape.group;
  const std::size_t block = query_block(layer.shape, n_q, n_head_kv, (std::size_t)nth),
                    n_blocks = (n_q + block - 1) / block, n_items = n_head_kv * n_blocks;
  for (std::size_t item; (item = repeat.next_norms.fetch_add(1)) < n_items * repeat.asked.size();) {
    RepeatLayer::Asked& asked = repeat.asked[item / n_items];
    const std::size_t head = item % n_head_kv, from = item % n_items / n_head_kv * block,
                      n = std::min(block, n_q - from);
    float* norms = asked.norms.data() + group * (head * n_q + from);
    repeat_norms(call_of(layer, q, head, from, n),
                 {.first = repeat.first,
                  .last = repeat.last,
                  .own = repeat.own,
                  .past_sinks = asked.past_sinks[head],
                  .n_fresh_sinks = asked.n_fresh_sinks},
                 norms, layer.scratch->of(ith));
    if (!asked.of_output) continue;
    for (std::size_t j = 0; j < n; ++j) {
      const float length = std::log2(length_of(*repeat.inputs, from + j));
      for (std::size_t h = 0; h < group; ++h) norms[j * group + h] += length;
    }
  }
}

void find_peaks(ggml_tensor* dst, int ith, int, void* userdata) {
  auto& layer = *(PrefillLayer*)userdata;
  RepeatLayer& repeat = *layer.repeat;
  const ggml_tensor* q = dst->src[1];
  const std::size_t n_q = (std::size_t)q->ne[2], n_head_kv = layer.past.size();
  const std::size_t group = (std::size_t)layer.shape.group, block = largest_query_block(layer.shape);
  const std::size_t each = std::min(kPeakKeys, accumulated_keys(layer.shape));
  const std::size_t n_parts = (repeat.last - repeat.first + each - 1) / each, n_items = n_head_kv * n_parts;
  for (std::size_t item; (item = repeat.next_peaks.fetch_add(1)) < n_items * repeat.asked.size();) {
    const RepeatLayer::Asked& asked = repeat.asked[item / n_items];
    const std::size_t head = item % n_head_kv, begin = repeat.first + item % n_items / n_head_kv * each;
    for (std::size_t from = 0; from < n_q; from += block) {
      const PrefillCall call = call_of(layer, q, head, from, std::min(block, n_q - from));
      const Tile keys{
          .rows = &call.fresh, .begin = begin, .n = std::min(each, repeat.last - begin), .entry = call.past.n + begin};
      // Norms lie by query, whatever blocks found them.
      raise_peaks(call, keys, asked.norms.data() + group * (head * n_q + from),
                  asked.peaks + head * group * layer.n_entries, layer.scratch->of(ith));
    }
  }
}

}  // namespace

std::size_t prefill_scratch_bytes(const Shape& shape) {
  return std::max(prefill_scratch(shape, largest_query_block(shape)), accumulate_scratch(shape));
}

ggml_tensor* prefill_node(ggml_context* ctx, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, PrefillLayer* layer) {
  const bool mixes = layer->mixes_queries();
  ggml_tensor* store_args[] = {k, v, q, nullptr};
  if (mixes && is_weighed(layer->shape.type_k) && (std::size_t)q->ne[0] <= kMostWeighed) {
    ggml_tensor* weigh_args[] = {q};
    store_args[3] = ggml_custom_4d(ctx, GGML_TYPE_F32, q->ne[0], q->ne[0], k->ne[1], 1, weigh_args, 1, weigh_chunk,
                                   GGML_N_TASKS_MAX, layer);
  }
  ggml_tensor* stored =
      mixes ? ggml_custom_4d(ctx, GGML_TYPE_F32, q->ne[0], q->ne[1], q->ne[2], 1, store_args, store_args[3] ? 4 : 3,
                             store_chunk, GGML_N_TASKS_MAX, layer)
            : ggml_custom_4d(ctx, GGML_TYPE_F32, 1, 1, 1, 1, store_args, 2, store_chunk, GGML_N_TASKS_MAX, layer);
  ggml_tensor* args[] = {mixes ? stored : q, stored};
  const std::int64_t n_out = (std::int64_t)layer->shape.d_v * q->ne[1];
  ggml_tensor* attended =
      ggml_custom_4d(ctx, GGML_TYPE_F32, n_out, q->ne[2], 1, 1, args, 2, attend_chunk, GGML_N_TASKS_MAX, layer);
  if (!layer->sums) return attended;
  layer->softmax.resize(2 * (std::size_t)(q->ne[1] * q->ne[2]));
  return ggml_map_custom1_inplace(ctx, attended, accumulate_chunk, GGML_N_TASKS_MAX, layer);
}

ggml_tensor* repeat_nodes(ggml_context* ctx, ggml_tensor* attended, ggml_tensor* q, PrefillLayer* layer) {
  bool of_output = false;
  for (RepeatLayer::Asked& asked : layer->repeat->asked) {
    asked.norms.resize((std::size_t)(q->ne[1] * q->ne[2]));
    of_output = of_output || asked.of_output;
  }
  if (layer->mixes_queries()) {
    q = ggml_custom_4d(ctx, GGML_TYPE_F32, q->ne[0], q->ne[1], q->ne[2], 1, &q, 1, mix_queries, GGML_N_TASKS_MAX,
                       layer);
  }
  ggml_tensor* args[] = {q, layer->repeat->inputs};
  attended = ggml_custom_inplace(ctx, attended, args, of_output ? 2 : 1, find_norms, GGML_N_TASKS_MAX, layer);
  return ggml_custom_inplace(ctx, attended, args, 1, find_peaks, GGML_N_TASKS_MAX, layer);
}

}  // namespace lacake::attention
