#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "attention/prefill_op.h"
#include "engine/engine_state.h"
#include "engine/entry_measures.h"
#include "engine/input_watch.h"
#include "graph/graph.h"

namespace lacake {

// Where a chunk's keys go as projected, beside the rotated ones that attention reads: for caches that keep them so.
struct PlainKeys {
  std::byte* to = nullptr;  // [n_head_kv] blocks of `capacity` rows, the chunk's from `first` on; null: not wanted
  std::size_t capacity = 0;
  std::size_t first = 0;
  ggml_type type = GGML_TYPE_F16;
  attention::KeyForm form = {};  // of all heads
};

// Where a chunk's queries go as projected: to what is learnt of them. Null: nothing is.
struct SeenQueries {
  EntryMeasures* by = nullptr;
  std::int64_t first_token = 0;
};

// The graph of one layer over one chunk of a prompt: hidden states in, hidden states out, K and V to the workspace.
// What it is given must stay where it is until the graph has run.
struct LayerGraph {
  //   n        tokens of the chunk
  //   rotated  keys are stored as attention reads them
  //   columns  makes the tensor of the chunk's hidden states, which is read and then written
  LayerGraph(EngineState& engine, int layer, std::size_t n, bool rotated, attention::PrefillLayer* attention,
             PlainKeys* plain, SeenQueries* queries, InputWatch* watch,
             const std::function<ggml_tensor*(Graph&)>& columns);

  Graph graph;
  ggml_tensor* positions;  // [n], to be set before it runs
};

}  // namespace lacake
