#pragma once

#include <cstdint>

#include "cache/row_mover.h"
#include "ggml-backend.h"
#include "graph/graph.h"
#include "place/attention_nodes.h"

namespace lacake {

// One device with its memory: everything that the engine asks of whatever computes. Addresses that a place hands out
// (rows, a graph's tensors) are its own; the host reads and writes them through ggml_backend_tensor_get and _set.
//
// A place is used by one thread at a time, except for RowMover::move.
class Place : public RowMover {
 public:
  // --- memory
  virtual ggml_backend_buffer_type_t buffer_type() const = 0;
  // Bytes that new buffers can have without pushing anything out.
  virtual std::uint64_t free_bytes() const = 0;
  // A buffer over host memory that the caller owns and keeps until the buffer is freed. 64-byte aligned.
  virtual ggml_backend_buffer_ptr wrap(void* memory, std::uint64_t bytes) const = 0;

  // --- graphs
  // How many threads run a graph: what custom nodes divide their work among.
  virtual int threads() const = 0;
  // Bytes that the graph's intermediate tensors need; allocates nothing.
  virtual std::uint64_t measure(Graph&) const = 0;
  // Gives every tensor its memory, until the next graph gets the same. Inputs are set after it, before run(). Throws
  // Error(kCapacity) if there is not enough.
  virtual void allocate(Graph&) = 0;
  // Memory of the graph's own, for one that runs again and again. Throws likewise.
  virtual void allocate_apart(Graph&) = 0;
  virtual void run(Graph&) = 0;
  // Bytes of the memory that allocate() shares out; it grows to the largest graph seen.
  virtual std::uint64_t graph_bytes() const = 0;

  // How this place attends.
  virtual const AttentionNodes& attention() const = 0;
};

}  // namespace lacake
