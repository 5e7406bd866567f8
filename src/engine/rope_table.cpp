#include "engine/rope_table.h"

#include <algorithm>

#include "graph/block.h"

namespace lacake {

std::size_t RopeTable::used(const Hyperparameters& h) {
  const bool slides = std::any_of(h.layers.begin(), h.layers.end(), [](const LayerKind& l) { return l.window > 0; });
  return slides ? h.ropes.size() : 1;
}

void RopeTable::extend(Place& place, std::size_t n) {
  if (n <= n_) return;
  tables_.resize(used(model_.hyperparameters));
  for (std::size_t kind = 0; kind < tables_.size(); ++kind) extend(place, (int)kind, n);
  n_ = n;
}

void RopeTable::extend(Place& place, int kind, std::size_t n) {
  const Hyperparameters& h = model_.hyperparameters;
  std::vector<float>& table = tables_[(std::size_t)kind];
  table.reserve(n * (std::size_t)h.n_rot);
  table.resize(n * (std::size_t)h.n_rot);
  const bool neox = h.rope_mode == GGML_ROPE_TYPE_NEOX;
  const int half = h.n_rot / 2;
  constexpr std::size_t kAtOnce = 1024;
  for (std::size_t from = n_; from < n; from += kAtOnce) {
    const std::int64_t count = (std::int64_t)std::min(kAtOnce, n - from);
    Graph graph(8);
    ggml_tensor* x = graph.input(GGML_TYPE_F32, h.d_k, 1, count);
    ggml_tensor* positions = graph.input(GGML_TYPE_I32, count);
    ggml_tensor* y = BlockBuilder(graph, h, model_.weights, {}).rope(x, positions, kind);
    graph.output(y);
    place.allocate(graph);

    // The pair (1, 0) turned by an angle is (cos, sin) of it.
    std::vector<float> unit((std::size_t)(h.d_k * count));
    std::vector<std::int32_t> at((std::size_t)count);
    for (std::int64_t p = 0; p < count; ++p) {
      at[(std::size_t)p] = (std::int32_t)(from + (std::size_t)p);
      for (int i = 0; i < half; ++i) unit[(std::size_t)(p * h.d_k + (neox ? i : 2 * i))] = 1;
    }
    ggml_backend_tensor_set(x, unit.data(), 0, unit.size() * sizeof(float));
    ggml_backend_tensor_set(positions, at.data(), 0, at.size() * sizeof(std::int32_t));
    place.run(graph);
    ggml_backend_tensor_get(y, unit.data(), 0, unit.size() * sizeof(float));
    for (std::int64_t p = 0; p < count; ++p) {
      float* row = table.data() + (from + (std::size_t)p) * (std::size_t)h.n_rot;
      const float* turned = unit.data() + p * h.d_k;
      for (int i = 0; i < half; ++i) {
        row[i] = turned[neox ? i : 2 * i];
        row[half + i] = turned[neox ? half + i : 2 * i + 1];
      }
    }
  }
}

std::uint64_t RopeTable::bytes() const {
  std::uint64_t floats = 0;
  for (const std::vector<float>& table : tables_) floats += table.capacity();
  return floats * sizeof(float);
}

attention::Rope RopeTable::rope(int layer) const {
  const Hyperparameters& h = model_.hyperparameters;
  const int kind = h.layers[(std::size_t)layer].rope;
  if (kind == kNoRope || tables_.empty()) return {};
  return {.table = tables_[(std::size_t)kind].data(), .n_rot = h.n_rot, .neox = h.rope_mode == GGML_ROPE_TYPE_NEOX};
}

}  // namespace lacake
