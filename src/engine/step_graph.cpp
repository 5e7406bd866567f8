#include "engine/step_graph.h"

#include "graph/block.h"

namespace lacake {

StepGraph::StepGraph(EngineState& engine, std::size_t n, std::size_t n_rotated, bool learned)
    : n_(n),
      n_rotated_(n_rotated),
      n_head_kv_((std::size_t)engine.model.hyperparameters.n_head_kv),
      learned_(learned),
      attention_((std::size_t)engine.model.hyperparameters.n_layer),
      graph_((nodes_per_block(engine.model.hyperparameters, engine.matmuls(/*batch_invariant*/ true), n) +
              engine.place.attention().n_nodes(n * (std::size_t)engine.model.hyperparameters.n_head_kv)) *
             (attention_.size() + 1)) {
  const Hyperparameters& h = engine.model.hyperparameters;
  for (attention::DecodeLayer& layer : attention_) layer.shape = {.d_k = h.d_k, .d_v = h.d_v, .group = h.group()};
  if (!learned_) return;
  scores_.resize(n_head_kv_ * n_ * attention_.size());
  watches_.resize(attention_.size());
  for (std::size_t l = 0; l < watches_.size(); ++l) {
    watches_[l] = {.learned = engine.learned((int)l),
                   .scores = scores_.data() + l * n_ * n_head_kv_,
                   .stride = 1,
                   .token_stride = n_head_kv_};
  }
}

void StepGraph::build(EngineState& engine) {
  const Hyperparameters& h = engine.model.hyperparameters;
  BlockBuilder builder(graph_, h, engine.model.weights, engine.matmuls(/*batch_invariant*/ true));
  ids_ = graph_.input(GGML_TYPE_I32, (std::int64_t)n_);
  ggml_tensor* x = builder.embed(ids_);
  for (std::size_t l = 0; l < attention_.size(); ++l) {
    positions_.push_back(graph_.input(GGML_TYPE_I32, (std::int64_t)n_));
    const auto rotate = [&](ggml_tensor* keys, ggml_tensor* at) { return builder.rope(keys, at, h.layers[l].rope); };
    const auto node = [&](const Projections& p) {
      if (learned_ && watches_[l].wanted()) watch_input(graph_, p.input, &watches_[l]);
      return engine.place.attention().decode(graph_, p, &attention_[l], rotate);
    };
    x = builder.block((int)l, x, positions_.back(), (std::int64_t)n_rotated_, node);
  }
  logits_ = builder.head(x);
  graph_.output(logits_);
}

std::span<const float> StepGraph::learned(int layer, std::size_t column) const {
  if (!learned_ || !watches_[(std::size_t)layer].wanted()) return {};
  return std::span(scores_).subspan(((std::size_t)layer * n_ + column) * n_head_kv_, n_head_kv_);
}

StepGraph& StepGraph::of(EngineState& engine, std::size_t n, std::size_t n_rotated, bool learned) {
  std::shared_ptr<StepGraph>& kept = engine.step_graph;
  const bool again =
      kept && kept->is_ready_ && kept->n_ == n && kept->n_rotated_ == n_rotated && kept->learned_ == learned;
  if (!again || !engine.place.attention().graph_outlives_rows()) {
    kept.reset();  // before the new one takes its memory
    kept = std::make_shared<StepGraph>(engine, n, n_rotated, learned);
  }
  return *kept;
}

void StepGraph::make_ready(EngineState& engine) {
  if (is_ready_) return;
  build(engine);
  engine.place.allocate_apart(graph_);
  is_ready_ = true;
}

void StepGraph::set_tokens(std::span<const std::int32_t> ids) {
  ggml_backend_tensor_set(ids_, ids.data(), 0, ids.size() * sizeof(std::int32_t));
}

void StepGraph::set_positions(int layer, std::span<const std::int32_t> at) {
  ggml_backend_tensor_set(positions_[(std::size_t)layer], at.data(), 0, at.size() * sizeof(std::int32_t));
}

}  // namespace lacake
