#pragma once

#include <deque>
#include <span>
#include <vector>

#include "attention/decode_op.h"
#include "engine/engine_state.h"
#include "engine/input_watch.h"

namespace lacake {

// The graph of one step: all layers, one column a session, of which the first `n_rotated` store rotated keys; with
// learned scores of the new tokens if a policy wants them. Where the place's attention reads what it attends over when
// it runs (AttentionNodes::graph_outlives_rows), the graph is built once and runs again as long as the batch has this
// shape; elsewhere it is built for each run.
class StepGraph {
 public:
  StepGraph(EngineState&, std::size_t n, std::size_t n_rotated, bool learned);

  // The engine's own, made anew where it has another shape. REQUIRES: describe attention(), then call make_ready().
  static StepGraph& of(EngineState&, std::size_t n, std::size_t n_rotated, bool learned);

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
  // Of a column in a layer, [n_head_kv]; empty if nobody wanted them or the layer has none.
  std::span<const float> learned(int layer, std::size_t column) const;

 private:
  std::size_t n_, n_rotated_, n_head_kv_;
  bool learned_;
  std::deque<attention::DecodeLayer> attention_;
  Graph graph_;
  bool is_ready_ = false;  // built, and has its memory
  ggml_tensor* ids_ = nullptr;
  std::vector<ggml_tensor*> positions_;  // by layer: cache indices may differ from layer to layer
  ggml_tensor* logits_ = nullptr;
  std::vector<float> scores_;        // [n_head_kv, n, n_layer]
  std::vector<InputWatch> watches_;  // by layer, as attention_
};

}  // namespace lacake
