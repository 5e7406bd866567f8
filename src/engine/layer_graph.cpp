#include "engine/layer_graph.h"

#include "graph/block.h"

namespace lacake {
namespace {

void store_plain(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const auto& keys = *(const PlainKeys*)userdata;
  const ggml_tensor* k = dst->src[0];
  const int d = (int)k->ne[0];
  const std::size_t row_bytes = ggml_row_size(keys.type, d);
  for (std::int64_t j = ith; j < k->ne[2]; j += nth) {
    for (std::int64_t h = 0; h < k->ne[1]; ++h) {
      const std::size_t row = (std::size_t)h * keys.capacity + keys.first + (std::size_t)j;
      const char* from = (const char*)k->data + h * (std::int64_t)k->nb[1] + j * (std::int64_t)k->nb[2];
      attention::store_key((const float*)from, d, keys.type, keys.form.of_head((std::size_t)h, (std::size_t)d), nullptr,
                           keys.to + row * row_bytes);
    }
  }
}

// Heads divided among threads: each is added in order.
void see_queries(ggml_tensor* dst, int ith, int nth, void* userdata) {
  auto& seen = *(SeenQueries*)userdata;
  const ggml_tensor* q = dst->src[0];
  const EntryMeasures::Queries chunk{.q = (const float*)q->data,
                                     .head_stride = q->nb[1] / sizeof(float),
                                     .token_stride = q->nb[2] / sizeof(float),
                                     .n = (std::size_t)q->ne[2],
                                     .first_token = seen.first_token};
  for (std::int64_t head = ith; head < q->ne[1]; head += nth) seen.by->add_queries(chunk, (std::size_t)head);
}

}  // namespace

LayerGraph::LayerGraph(EngineState& engine, int layer, std::size_t n, bool rotated, attention::PrefillLayer* attention,
                       PlainKeys* plain, SeenQueries* queries, InputWatch* watch,
                       const std::function<ggml_tensor*(Graph&)>& columns)
    : graph(nodes_per_block(engine.model.hyperparameters, engine.matmuls(/*batch_invariant*/ false), 0) +
            engine.place.attention().n_nodes(attention->past.size())) {
  BlockBuilder builder(graph, engine.model.hyperparameters, engine.model.weights,
                       engine.matmuls(/*batch_invariant*/ false));
  ggml_tensor* x = columns(graph);
  positions = graph.input(GGML_TYPE_I32, (std::int64_t)n);
  const auto rotate = [&](ggml_tensor* keys, ggml_tensor* at) {
    return builder.rope(keys, at, engine.model.hyperparameters.layers[(std::size_t)layer].rope);
  };
  const auto node = [&](const Projections& p) {
    if (watch->wanted()) watch_input(graph, p.input, watch);
    if (plain->to) {
      ggml_tensor* args[] = {p.k};
      graph.output(
          ggml_custom_4d(graph.context(), GGML_TYPE_F32, 1, 1, 1, 1, args, 1, store_plain, GGML_N_TASKS_MAX, plain));
    }
    if (queries->by) {
      ggml_tensor* args[] = {p.q_plain};
      graph.output(
          ggml_custom_4d(graph.context(), GGML_TYPE_F32, 1, 1, 1, 1, args, 1, see_queries, GGML_N_TASKS_MAX, queries));
    }
    return engine.place.attention().prefill(graph, p, rotated ? p.k_rotated : p.k_plain, attention, rotate);
  };
  ggml_tensor* y = builder.block(layer, x, positions, rotated ? (std::int64_t)n : 0, node);
  graph.output(ggml_cpy(graph.context(), y, x));
}

}  // namespace lacake
