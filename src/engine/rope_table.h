#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/attention.h"
#include "graph/compute.h"
#include "model/parts.h"

namespace lacake {

// Cosines and sines by position, for keys that are kept unrotated. Computed by ggml's own RoPE on unit vectors, so that
// every variant of it (frequency factors, scaling, partial dimensions) is exact without a second implementation.
class RopeTable {
 public:
  explicit RopeTable(const Model::Parts& model) : model_(model) {}

  // Makes positions 0 .. n-1 known. Moves the table: REQUIRES that no graph runs.
  void extend(Compute& compute, std::size_t n);
  attention::Rope rope() const;
  std::uint64_t bytes() const { return table_.capacity() * sizeof(float); }
  static std::uint64_t bytes_for(const Hyperparameters& h, std::size_t n) {
    return (std::uint64_t)h.n_rot * sizeof(float) * n;
  }

 private:
  const Model::Parts& model_;
  std::size_t n_ = 0;
  std::vector<float> table_;  // [n_rot, n]
};

}  // namespace lacake
