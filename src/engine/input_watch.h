#pragma once

#include <cstddef>

#include "graph/graph.h"
#include "model/calibration.h"

namespace lacake {

// What is taken of the columns that a layer's keys are projected from, for policies that asked: learned scores
// (Measures::learned) or the columns themselves (Measures::inputs). A token's numbers are the same bits whatever tokens
// stand beside it.
struct InputWatch {
  const LearnedLayer* learned = nullptr;  // null: not wanted
  float* scores = nullptr;                // a KV head's `stride` apart, the first column's at 0
  std::size_t stride = 0;
  std::size_t token_stride = 1;  // from one column's score to the next's
  float* inputs = nullptr;       // [n_embd, n]; null: not wanted

  bool wanted() const { return learned || inputs; }
};

// Adds the node that takes it from `input` [n_embd, n] when the graph runs. The watch lives as long as the graph.
void watch_input(Graph& graph, ggml_tensor* input, InputWatch* watch);

}  // namespace lacake
