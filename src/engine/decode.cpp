#include "engine/decode.h"

#include <algorithm>
#include <deque>

#include "graph/block.h"

namespace lacake {
namespace {

// Decode decides after the whole step: every decision can be applied at once.
class Direct final : public Compaction {
 public:
  explicit Direct(Cache& cache) : cache_(cache) {}
  void keep(int layer, Selection selection) override { cache_.compact(layer, selection); }

 private:
  Cache& cache_;
};

// The graph of one step: all layers, one column a session.
struct StepGraph {
  StepGraph(Engine::Parts& engine, std::size_t n, std::size_t n_rotated, std::deque<attention::DecodeLayer>& attention)
      : graph((kNodesPerBlock) * (attention.size() + 1)) {
    const Hyperparameters& h = engine.model.hyperparameters;
    const BlockBuilder builder(graph, h, engine.model.weights, /*column_by_column*/ true);
    ids = graph.input(GGML_TYPE_I32, (std::int64_t)n);
    ggml_tensor* x = builder.embed(ids);
    for (std::size_t l = 0; l < attention.size(); ++l) {
      positions.push_back(graph.input(GGML_TYPE_I32, (std::int64_t)n));
      const auto node = [&](const Projections& p) {
        return attention::decode_node(graph.context(), p.q, p.k_rotated, p.k_plain, p.v, &attention[l]);
      };
      x = builder.block((int)l, x, positions.back(), (std::int64_t)n_rotated, node);
    }
    logits = builder.head(x);
    graph.output(logits);
  }
  Graph graph;
  ggml_tensor* ids;
  std::vector<ggml_tensor*> positions;  // by layer: cache indices may differ from layer to layer
  ggml_tensor* logits;
};

// One session's part of a step.
struct Column {
  SessionImpl* session;
  Token token;
  std::int64_t n_past = 0;
  std::vector<Measures> asked;         // by layer
  std::vector<std::size_t> recorded;   // by layer: where its rows begin in session->rows()
};

void prepare(Column& c, int n_layer, int n_head) {
  SessionImpl& s = *c.session;
  c.n_past = (std::int64_t)s.n_past();
  s.cache().append(c.n_past);
  std::size_t floats = 0;
  for (int l = 0; l < n_layer; ++l) {
    const std::size_t n_entries = s.cache().length(l);
    c.asked.push_back(s.policy().measures(Phase::kDecode, l, n_entries, 1));
    c.recorded.push_back(floats);
    if (c.asked.back().window > 0 || c.asked.back().accumulated) floats += n_entries * (std::size_t)n_head;
  }
  if (s.rows().size() < floats) s.rows().resize(floats);
}

}  // namespace

void run_step(Engine::Parts& engine, std::span<SessionImpl* const> sessions, std::span<const Token> tokens) {
  const Hyperparameters& h = engine.model.hyperparameters;
  std::vector<Column> columns;
  for (std::size_t i = 0; i < sessions.size(); ++i) columns.push_back({.session = sessions[i], .token = tokens[i]});
  // Sessions that store rotated keys come first, so that their columns lie together.
  const auto plain = std::stable_partition(columns.begin(), columns.end(),
                                           [](const Column& c) { return !c.session->cache_index(); });
  const std::size_t n = columns.size(), n_rotated = (std::size_t)(plain - columns.begin());
  for (Column& c : columns) prepare(c, h.n_layer, h.n_head);
  for (const Column& c : columns) {
    if (!c.session->cache_index()) continue;
    std::size_t longest = 0;
    for (int l = 0; l < h.n_layer; ++l) longest = std::max(longest, c.session->cache().length(l));
    engine.rope_table.extend(engine.compute, longest);
  }

  std::deque<attention::DecodeLayer> attention;  // a deque: the graph keeps their addresses
  std::size_t partials = 0;
  for (int l = 0; l < h.n_layer; ++l) {
    attention::DecodeLayer& layer = attention.emplace_back();
    layer.n_head_kv = h.n_head_kv;
    layer.n_rotated = n_rotated;
    layer.partials = &engine.partials;
    layer.scratch = &engine.scratch;
    const CacheShape& first = columns[0].session->cache().arena().shape();
    layer.shape = {.d_k = h.d_k,
                   .d_v = h.d_v,
                   .group = h.group(),
                   .type_k = first.type_k,
                   .type_v = first.type_v,
                   .scale = h.attention_scale(),
                   .rope = engine.rope_table.rope()};
    for (Column& c : columns) {
      const Cache& cache = c.session->cache();
      const std::size_t n_entries = cache.length(l);
      const Measures& m = c.asked[(std::size_t)l];
      for (int head = 0; head < h.n_head_kv; ++head) {
        attention::DecodeLayer::Lane lane{.rows = cache.rows(l, head),
                                          .type_k = cache.arena().shape().type_k,
                                          .type_v = cache.arena().shape().type_v,
                                          .new_k = cache.new_k(l, head),
                                          .new_v = cache.new_v(l, head)};
        if (m.window > 0 || m.accumulated) {
          const std::size_t skip = (std::size_t)(head * h.group()) * n_entries;
          lane.probabilities = c.session->rows().data() + c.recorded[(std::size_t)l] + skip;
          lane.probabilities_stride = n_entries;
        }
        layer.lanes.push_back(lane);
      }
    }
    partials = std::max(partials, layer.cut());
  }
  if (engine.partials.size() < partials) engine.partials.resize(partials);
  engine.scratch.reserve(engine.compute.threads(), attention::decode_scratch(attention[0].shape));

  StepGraph step(engine, n, n_rotated, attention);
  engine.compute.allocate(step.graph);
  std::vector<std::int32_t> ids, at(n);
  for (const Column& c : columns) ids.push_back(c.token);
  ggml_backend_tensor_set(step.ids, ids.data(), 0, n * sizeof(std::int32_t));
  for (int l = 0; l < h.n_layer; ++l) {
    for (std::size_t i = 0; i < n; ++i) {
      const SessionImpl& s = *columns[i].session;
      at[i] = (std::int32_t)(s.cache_index() ? s.policy().query_position(l, s.cache().length(l) - 1) : columns[i].n_past);
    }
    ggml_backend_tensor_set(step.positions[(std::size_t)l], at.data(), 0, n * sizeof(std::int32_t));
  }
  engine.compute.run(step.graph);

  const AttentionShape shape{h.n_layer, h.n_head, h.n_head_kv};
  for (std::size_t i = 0; i < n; ++i) {
    SessionImpl& s = *columns[i].session;
    s.logits_buffer().resize((std::size_t)h.n_vocab);
    ggml_backend_tensor_get(step.logits, s.logits_buffer().data(), i * (std::size_t)h.n_vocab * sizeof(float),
                            (std::size_t)h.n_vocab * sizeof(float));
    Direct direct(s.cache());
    for (int l = 0; l < h.n_layer; ++l) {
      const Measures& asked = columns[i].asked[(std::size_t)l];
      const float* rows = s.rows().data() + columns[i].recorded[(std::size_t)l];
      const Recording recording{.probabilities = asked.window > 0 ? rows : nullptr,
                                .n_rows = 1,
                                .sums = asked.accumulated ? rows : nullptr,
                                .stride = s.cache().length(l)};
      s.policy().update(s.observer().observe(asked, s.cache(), shape, l, Phase::kDecode, 1, columns[i].n_past,
                                             recording, {}),
                        direct);
    }
    s.fed({&columns[i].token, 1});
  }
}

std::uint64_t decode_compute_bytes(Engine::Parts& engine, const CacheShape& shape) {
  const Hyperparameters& h = engine.model.hyperparameters;
  std::deque<attention::DecodeLayer> attention((std::size_t)h.n_layer);
  for (attention::DecodeLayer& layer : attention) {
    layer.shape = {.d_k = h.d_k, .d_v = h.d_v, .group = h.group(), .type_k = shape.type_k, .type_v = shape.type_v};
  }
  StepGraph step(engine, 1, 1, attention);
  return engine.compute.measure(step.graph);
}

}  // namespace lacake
