#pragma once

// Products as nodes of a ggml graph: what divides the kernels' work among ggml's threads.

#include <span>
#include <vector>

#include "graph/graph.h"
#include "graph/packed_product.h"
#include "matmul/matmul_method.h"
#include "model/lora.h"
#include "model/weights.h"

namespace lacake {

// How a graph's products are made.
struct MatmulPlan {
  matmul::Method method = matmul::Method::kGgml;
  int threads = 1;                   // that will run the graph
  bool batch_invariant = false;      // a column's products are the same bits whatever columns stand beside it (decode)
  std::span<const Lora> loras = {};  // what they add
};

// Columns that weights are multiplied with.
struct Columns {
  ggml_tensor* values = nullptr;  // [n_in, n] f32, contiguous
  // Where they are a root-mean-square norm, of what, so that a product can norm for itself (graph/packed_product.h).
  ggml_tensor* of = nullptr;      // [n_in, n] f32
  ggml_tensor* weight = nullptr;  // [n_in] f32
  float epsilon = 0;
};

// Makes the products of one graph. Columns that several weights are multiplied with are converted once.
class MatmulNodes {
 public:
  // Borrows the graph, which keeps what its nodes need, and the weights.
  MatmulNodes(Graph& graph, const Weights& weights, const MatmulPlan& plan)
      : graph_(graph), weights_(weights), plan_(plan) {}

  //   linear  weights [n_in, n_out] of any type, stored row after row
  //   plus    [n_out, n] f32 or null: added
  // Returns [n_out, n] f32, with its bias and what adapters add to it.
  ggml_tensor* multiply(const Linear& linear, const Columns& x, ggml_tensor* plus = nullptr);
  // Several products of the same columns. A result's columns may lie apart: they are parts of one tensor where one node
  // makes them all.
  std::vector<ggml_tensor*> multiply(std::span<const Linear> linears, const Columns& x);

  //   ids  [n] i32
  // Returns rows of a weight: [n_in, n] f32.
  ggml_tensor* rows(ggml_tensor* weight, ggml_tensor* ids);

 private:
  matmul::Kernel kernel_of(const ggml_tensor* weight, std::int64_t n) const;
  bool is_adapted(const ggml_tensor* weight) const;
  // One node for all, or null where there is none.
  ggml_tensor* packed_product(std::span<const Linear> linears, const Columns& x, ggml_tensor* plus);
  ggml_tensor* product(ggml_tensor* weight, ggml_tensor* x);
  ggml_tensor* adapted(ggml_tensor* weight, ggml_tensor* x);
  ggml_tensor* by_ggml(ggml_tensor* weight, ggml_tensor* x);
  // Columns first .. first + n - 1, a product each.
  ggml_tensor* one_by_one(ggml_tensor* weight, ggml_tensor* x, std::int64_t first, std::int64_t n);
  ggml_tensor* quantised(ggml_tensor* x);
  ggml_tensor* in_bf16(ggml_tensor* x, matmul::Pieces);
  ggml_tensor* converted(ggml_tensor* x, ggml_custom_op_t how, std::size_t bytes, std::int64_t n);
  ggml_tensor* scratch(std::size_t bytes_each);

  Graph& graph_;
  const Weights& weights_;
  MatmulPlan plan_;
  ggml_tensor* last_x_ = nullptr;
  ggml_custom_op_t last_how_ = nullptr;
  ggml_tensor* last_converted_ = nullptr;
  PackedProduct* last_packed_ = nullptr;
  std::vector<ggml_tensor*> scratch_;  // [bytes, threads]: nodes run one after the other, so that they can share it
};

}  // namespace lacake
