#pragma once

// Products of packed matrices with a token's columns, as one node. All threads wait for each other after every node,
// and while a thread norms or quantises a column alone, memory stands still. So a node takes all matrices that are
// multiplied with the same columns, adds what is added to a product, lets each thread norm and quantise a single column
// for itself, and calls for the weights of the next product while a thread waits for the others.

#include <cstddef>
#include <vector>

#include "graph/graph.h"
#include "graph/node_threads.h"
#include "matmul/packed.h"

namespace lacake {

struct PackedProduct {
  struct Part {
    const matmul::Packed* matrix = nullptr;
    const float* bias = nullptr;  // [n_out] or null
  };
  // Root-mean-square norm of the columns.
  struct Norm {
    const float* weight = nullptr;  // [n_in]; null: columns stay as they are
    float epsilon = 0;
  };

  std::vector<Part> parts;  // all of n_in numbers a row
  Norm norm;
  const PackedProduct* next = nullptr;  // that the graph runs after this one, or null

  std::size_t n_in() const { return parts[0].matrix->n_in(); }
  std::size_t n_out() const;
  std::size_t n_tiles() const;
  // What each thread needs beside its columns.
  std::size_t scratch_bytes() const;

  Items items;  // tiles that threads take; the last thread of a run makes it as new for the next
};

//   x        [n_in, n] f32
//   plus     [n_out, n] f32 or null: added to the products
//   scratch  [scratch_bytes, threads]
// Returns [n_out, n]: the parts' rows one behind the other. A column is the same bits whatever stands beside it.
// `product` must live as long as the graph.
ggml_tensor* packed_product_node(Graph& graph, PackedProduct& product, ggml_tensor* x, ggml_tensor* plus,
                                 ggml_tensor* scratch);

}  // namespace lacake
