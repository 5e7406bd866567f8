#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "ggml-cpp.h"
#include "ggml-cpu.h"

namespace lacake {

// A graph being built: its tensors' descriptions, without data.
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

 private:
  friend class Compute;
  ggml_context_ptr context_;
  ggml_cgraph* graph_;
  ggml_gallocr_ptr allocator_;
  std::vector<std::shared_ptr<void>> kept_;
};

// Runs graphs on the CPU backend with a pool of threads that sleeps between calls. Intermediate tensors share one
// buffer, which grows to the largest graph seen.
class Compute {
 public:
  explicit Compute(int threads);
  ~Compute();
  Compute(const Compute&) = delete;
  Compute& operator=(const Compute&) = delete;

  int threads() const { return threads_; }
  ggml_backend_buffer_type_t buffer_type() const;

  // Bytes that the graph's intermediate tensors need; allocates nothing.
  std::uint64_t measure(Graph&) const;
  // Gives every tensor its memory, until the next graph gets the same. Inputs are set after it, before run().
  void allocate(Graph&);
  // Memory of the graph's own, for one that runs again and again.
  void allocate_apart(Graph&);
  void run(Graph&);
  // Calls work(i, thread) once for each i below n, in any order, on the same threads (0 .. threads() - 1). Of what they
  // throw, the lowest i's comes out when all have ended.
  using Work = std::function<void(std::size_t i, int thread)>;
  void each(std::size_t n, const Work& work);
  std::uint64_t bytes() const;

 private:
  static void allocate_from(ggml_gallocr_t, Graph&);

  int threads_;
  ggml_backend_ptr backend_;
  ggml_threadpool_t pool_ = nullptr;
  void (*free_pool_)(ggml_threadpool_t) = nullptr;
  ggml_gallocr_ptr allocator_;
  struct Division;
  std::unique_ptr<Division> division_;
};

}  // namespace lacake
