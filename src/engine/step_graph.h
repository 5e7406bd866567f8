#pragma once

#include <deque>
#include <span>
#include <vector>

#include "attention/attention_op.h"
#include "engine/engine_state.h"

namespace lacake {

// The graph of one step: all layers, one column a session, of which the first `n_rotated` store rotated keys. Where the
// place's attention reads what it attends over when it runs (AttentionNodes::graph_outlives_rows), the graph is built
// once and runs again as long as the batch has this shape; elsewhere it is built for each run.
class StepGraph {
 public:
  StepGraph(EngineState&, std::size_t n, std::size_t n_rotated);

  // The engine's own, made or made anew where it has another shape. REQUIRES: make_ready() after attention() is
  // described
  static StepGraph& of(EngineState&, std::size_t n, std::size_t n_rotated);

  void build(EngineState&);
  // Builds it and gives it memory, if it is not built.
  void make_ready(EngineState&);
  Graph& graph() { return graph_; }
  // By layer; a graph's nodes know their addresses.
  std::deque<attention::DecodeLayer>& attention() { return attention_; }
  // One for each column.
  void set_tokens(std::span<const std::int32_t> ids);
  void set_positions(int layer, std::span<const std::int32_t> at);
  //   logits  [n_vocab, n]
  const ggml_tensor* logits() const { return logits_; }

 private:
  std::size_t n_, n_rotated_;
  std::deque<attention::DecodeLayer> attention_;
  Graph graph_;
  ggml_tensor* ids_ = nullptr;           // null: not built
  std::vector<ggml_tensor*> positions_;  // by layer: cache indices may differ from layer to layer
  ggml_tensor* logits_ = nullptr;
};

}  // namespace lacake
