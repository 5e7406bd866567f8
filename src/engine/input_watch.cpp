#include "engine/input_watch.h"

#include <algorithm>
#include <cstdint>

namespace lacake {
namespace {

void take(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const auto& watch = *(const InputWatch*)userdata;
  const ggml_tensor* input = dst->src[0];
  const auto n = (std::size_t)input->ne[0];
  for (std::int64_t j = ith; j < input->ne[1]; j += nth) {
    const auto* column = (const float*)((const char*)input->data + j * (std::int64_t)input->nb[1]);
    if (watch.learned) {
      learned_scores(*watch.learned, column, watch.scores + (std::size_t)j * watch.token_stride, watch.stride);
    }
    if (watch.inputs) std::copy_n(column, n, watch.inputs + (std::size_t)j * n);
  }
}

}  // namespace

void watch_input(Graph& graph, ggml_tensor* input, InputWatch* watch) {
  graph.output(ggml_custom_4d(graph.context(), GGML_TYPE_F32, 1, 1, 1, 1, &input, 1, take, GGML_N_TASKS_MAX, watch));
}

}  // namespace lacake
