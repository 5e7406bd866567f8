#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ggml-cpp.h"

namespace lacake {

// A graph being built: its tensors' descriptions, without data. A Place gives it memory and runs it.
class Graph {
 public:
  explicit Graph(std::size_t n_nodes);

  ggml_context* context() const { return context_.get(); }
  ggml_cgraph* graph() const { return graph_; }
  ggml_tensor* input(ggml_type type, std::int64_t ne0, std::int64_t ne1 = 1, std::int64_t ne2 = 1);
  void output(ggml_tensor* tensor);

  // What a custom node needs while the graph lives.
  template <class T>
  T& keep() {
    auto kept = std::make_shared<T>();
    kept_.push_back(kept);
    return *kept;
  }

  // Memory of the graph's own, if a place gave it some; lives as long as the graph.
  ggml_gallocr_ptr& own_memory() { return own_memory_; }

 private:
  ggml_context_ptr context_;
  ggml_cgraph* graph_;
  ggml_gallocr_ptr own_memory_;
  std::vector<std::shared_ptr<void>> kept_;
};

}  // namespace lacake
