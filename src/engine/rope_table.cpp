#include "engine/rope_table.h"

#include <algorithm>

#include "graph/block.h"

namespace lacake {

std::size_t RopeTable::used(const Hyperparameters& h) {
  const bool slides = std::any_of(h.layers.begin(), h.layers.end(), [](const LayerKind& l) { return l.window > 0; });
  return slides ? h.ropes.size() : 1;
}

namespace {

// Positions that are turned at once.
constexpr std::size_t kAtOnce = 1024;

}  // namespace

// Unit vectors, their rotation, and a copy of one of both.
std::uint64_t rotation_bytes(const Hyperparameters& h, std::size_t n) {
  const std::uint64_t vectors = std::min(n, kAtOnce) * (std::uint64_t)h.d_k * 3;
  return (n * (std::uint64_t)h.n_rot + vectors) * sizeof(float);
}

void make_rotations(Place& place, const LoadedModel& model, int kind, std::size_t first, std::size_t n, float* to) {
  const Hyperparameters& h = model.hyperparameters;
  const attention::Rope shape{.n_rot = h.n_rot, .neox = h.rope_mode == GGML_ROPE_TYPE_NEOX};
  const std::size_t half = (std::size_t)h.n_rot / 2;
  for (std::size_t from = 0; from < n; from += kAtOnce) {
    const std::int64_t count = (std::int64_t)std::min(kAtOnce, n - from);
    Graph graph(8);
    ggml_tensor* x = graph.input(GGML_TYPE_F32, h.d_k, 1, count);
    ggml_tensor* positions = graph.input(GGML_TYPE_I32, count);
    ggml_tensor* y = BlockBuilder(graph, h, model.weights, {}).rope(x, positions, kind);
    graph.output(y);
    place.allocate(graph);

    // The pair (1, 0) turned by an angle is (cos, sin) of it.
    std::vector<float> unit((std::size_t)(h.d_k * count));
    std::vector<std::int32_t> at((std::size_t)count);
    for (std::int64_t p = 0; p < count; ++p) {
      at[(std::size_t)p] = (std::int32_t)(first + from + (std::size_t)p);
      for (std::size_t i = 0; i < half; ++i) unit[(std::size_t)(p * h.d_k) + shape.pair(i).a] = 1;
    }
    ggml_backend_tensor_set(x, unit.data(), 0, unit.size() * sizeof(float));
    ggml_backend_tensor_set(positions, at.data(), 0, at.size() * sizeof(std::int32_t));
    place.run(graph);
    ggml_backend_tensor_get(y, unit.data(), 0, unit.size() * sizeof(float));
    for (std::int64_t p = 0; p < count; ++p) {
      float* row = to + (from + (std::size_t)p) * (std::size_t)h.n_rot;
      const float* turned = unit.data() + p * h.d_k;
      for (std::size_t i = 0; i < half; ++i) {
        row[i] = turned[shape.pair(i).a];
        row[half + i] = turned[shape.pair(i).b];
      }
    }
  }
}

void RopeTable::extend(Place& place, std::size_t n) {
  if (n <= n_) return;
  tables_.resize(used(model_.hyperparameters));
  const auto row = (std::size_t)model_.hyperparameters.n_rot;
  for (std::size_t kind = 0; kind < tables_.size(); ++kind) {
    tables_[kind].reserve(n * row);
    tables_[kind].resize(n * row);
    make_rotations(place, model_, (int)kind, n_, n - n_, tables_[kind].data() + n_ * row);
  }
  n_ = n;
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
