#include "graph/graph.h"

namespace lacake {

Graph::Graph(std::size_t n_nodes) {
  // Leaves (weights, inputs) beside nodes: twice as many tensors at most.
  const std::size_t bytes = ggml_tensor_overhead() * n_nodes * 2 + ggml_graph_overhead_custom(n_nodes, false);
  context_.reset(ggml_init({.mem_size = bytes, .mem_buffer = nullptr, .no_alloc = true}));
  graph_ = ggml_new_graph_custom(context_.get(), n_nodes, false);
}

ggml_tensor* Graph::input(ggml_type type, std::int64_t ne0, std::int64_t ne1, std::int64_t ne2) {
  ggml_tensor* t = ggml_new_tensor_3d(context_.get(), type, ne0, ne1, ne2);
  ggml_set_input(t);
  // Part of the graph, and so given memory, even where no node reads it: positions of a layer without RoPE.
  ggml_build_forward_expand(graph_, t);
  return t;
}

void Graph::output(ggml_tensor* tensor) {
  ggml_set_output(tensor);
  ggml_build_forward_expand(graph_, tensor);
}

}  // namespace lacake
