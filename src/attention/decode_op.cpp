#include "attention/decode_op.h"

#include <algorithm>

#include "attention/layout.h"
#include "attention/round.h"

namespace lacake::attention {
namespace {

// The new token's row of a lane: written by whoever takes the piece that holds it.
void store_new(const DecodeLayer& layer, const ggml_tensor* dst, std::size_t i, const KeyForm& form,
               const float* metric) {
  const ggml_tensor* v = dst->src[1];
  const ggml_tensor* k_first = dst->src[2];  // rotated if any is, else plain
  const ggml_tensor* k_plain = layer.n_rotated == 0 ? k_first : dst->src[3];
  const std::size_t session = i / (std::size_t)layer.n_head_kv, head = i % (std::size_t)layer.n_head_kv;
  const bool rotated = session < layer.n_rotated;
  const float* k = row_of(rotated ? k_first : k_plain, (std::int64_t)head,
                          (std::int64_t)(rotated ? session : session - layer.n_rotated));
  const DecodeLayer::Lane& lane = layer.lanes[i];
  store_key(k, layer.shape.d_k, lane.type_k, form, metric, lane.new_k);
  store_row(row_of(v, (std::int64_t)head, (std::int64_t)session), layer.shape.d_v, lane.type_v, lane.new_v);
}

// Of a group's mixed queries, at the start of a thread's scratch.
std::size_t query_bytes(const Shape& shape) {
  return round_up((std::size_t)shape.group * (std::size_t)shape.d_k * sizeof(float), kScratchAlignment);
}

void attend_pieces(ggml_tensor* dst, int ith, int, void* userdata) {
  auto& layer = *(DecodeLayer*)userdata;
  const ggml_tensor* q = dst->src[0];
  const std::size_t group = (std::size_t)layer.shape.group, n_head_kv = (std::size_t)layer.n_head_kv;
  const std::size_t d_k = (std::size_t)layer.shape.d_k, d_v = (std::size_t)layer.shape.d_v;
  const std::size_t each = group * partial_floats(layer.shape);
  const std::size_t n_items = layer.items.size();
  // One piece is always taken ahead, so that its first rows can be on their way while the one before is computed.
  for (std::size_t item = layer.next.fetch_add(1), following; item < n_items; item = following) {
    following = layer.next.fetch_add(1);
    const std::size_t lane = layer.items[item].lane, begin = layer.items[item].piece * kDecodePiece;
    const DecodeLayer::Lane& l = layer.lanes[lane];
    const std::size_t end = std::min(begin + kDecodePiece, l.rows.n);
    const auto new_row = (std::size_t)(l.new_k - (const std::byte*)l.rows.k) / l.rows.k_stride;
    DecodeCall call;
    call.shape = layer.shape;
    call.shape.key_form = (l.rows.rope_index ? layer.plain_form : layer.shape.key_form).of_head(lane % n_head_kv, d_k);
    call.shape.type_k = l.type_k;
    call.shape.type_v = l.type_v;
    call.arithmetic = l.arithmetic;
    call.rows = l.rows;
    call.begin = begin;
    call.end = end;
    call.q = row_of(q, (std::int64_t)(lane % n_head_kv * group), (std::int64_t)(lane / n_head_kv));
    // Once a piece: a hundredth of what its rows take, and nobody waits for it.
    std::span<std::byte> scratch = layer.scratch->of(ith);
    if (l.mixes_queries()) {
      auto* mixed = (float*)scratch.data();
      std::copy_n(call.q, group * d_k, mixed);
      queries_to_form(call.shape.key_form, mixed, d_k, group);
      call.q = mixed;
    }
    if (new_row >= begin && new_row < end) {
      float* metric = nullptr;
      if (l.mixes_queries() && is_weighed(l.type_k) && d_k <= kMostWeighed) {
        metric = (float*)scratch.subspan(query_bytes(layer.shape)).data();
        weigh(call.q, group, d_k, d_k, kOthersOfToken, metric);
      }
      store_new(layer, dst, lane, call.shape.key_form, metric);
    }
    call.partial = layer.partials->data() + (l.first_piece + layer.items[item].piece) * each;
    call.weights = l.probabilities;
    call.weights_stride = l.probabilities_stride;
    if (following < n_items) {
      const DecodeLayer::Item& next = layer.items[following];
      const Rows& rows = layer.lanes[next.lane].rows;
      call.next = (const std::byte*)rows.k + next.piece * kDecodePiece * rows.k_stride;
    }
    decode(call, scratch.subspan(query_bytes(layer.shape)));

    // Heads of a session lie one after the other, as do the sessions' columns: lane i's output is the i-th block.
    if (layer.left[lane].fetch_sub(1) == 1) {
      float* out = (float*)dst->data + lane * group * d_v;
      combine(shape_of_head(layer.shape, lane % n_head_kv), layer.partials->data() + l.first_piece * each, l.n_pieces,
              out,
              {.at = l.probabilities, .stride = l.probabilities_stride, .n = l.rows.n, .group_mean = l.group_mean});
      if (is_mixed(l.type_v)) mix(out, d_v, group);
    }
  }
}

}  // namespace

std::size_t decode_scratch_bytes(const Shape& shape) {
  const auto d_k = (std::size_t)shape.d_k;
  const std::size_t metric = d_k <= kMostWeighed ? d_k * d_k * sizeof(float) : 0;
  return query_bytes(shape) + std::max(decode_scratch(shape), metric);
}

std::size_t DecodeLayer::cut() {
  if (n_left_ != lanes.size()) {
    left = std::make_unique<std::atomic<std::size_t>[]>(lanes.size());
    n_left_ = lanes.size();
  }
  std::size_t n = 0;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    lanes[i].first_piece = n;
    lanes[i].n_pieces = (lanes[i].rows.n + kDecodePiece - 1) / kDecodePiece;
    left[i] = lanes[i].n_pieces;
    n += lanes[i].n_pieces;
  }
  items.clear();
  const auto n_heads = (std::size_t)n_head_kv;
  for (std::size_t first = 0; first < lanes.size(); first += n_heads) {
    std::size_t most = 0;
    for (std::size_t i = first; i < first + n_heads; ++i) most = std::max(most, lanes[i].n_pieces);
    for (std::size_t piece = 0; piece < most; ++piece) {
      for (std::size_t i = first; i < first + n_heads; ++i) {
        if (piece < lanes[i].n_pieces) items.push_back({i, piece});
      }
    }
  }
  next = 0;
  return n * (std::size_t)shape.group * partial_floats(shape);
}

ggml_tensor* decode_node(ggml_context* ctx, ggml_tensor* q, ggml_tensor* k_rotated, ggml_tensor* k_plain,
                         ggml_tensor* v, DecodeLayer* layer) {
  ggml_tensor* args[] = {q, v, k_rotated ? k_rotated : k_plain, k_plain};
  const std::int64_t n_out = (std::int64_t)layer->shape.d_v * q->ne[1];
  return ggml_custom_4d(ctx, GGML_TYPE_F32, n_out, q->ne[2], 1, 1, args, k_rotated && k_plain ? 4 : 3, attend_pieces,
                        GGML_N_TASKS_MAX, layer);
}

}  // namespace lacake::attention
