#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/attention.h"
#include "model/loaded_model.h"
#include "place/place.h"

namespace lacake {

// Rows of a table (attention::Rope) for positions first .. first + n - 1, as keys of this kind (Hyperparameters::ropes)
// turn: [n_rot, n]. Computed by ggml's own RoPE on unit vectors, so that every variant of it (frequency factors,
// scaling, partial dimensions) is exact without a second implementation.
void make_rotations(Place& place, const LoadedModel& model, int kind, std::size_t first, std::size_t n, float* to);

// Bytes of such a table, and of what making it takes.
std::uint64_t rotation_bytes(const Hyperparameters& h, std::size_t n);

// Cosines and sines by position, for keys that are kept unrotated.
class RopeTable {
 public:
  explicit RopeTable(const LoadedModel& model) : model_(model) {}

  // Makes positions 0 .. n-1 known. Moves the table: REQUIRES that no graph runs.
  void extend(Place& place, std::size_t n);
  // As keys of this layer are rotated.
  attention::Rope rope(int layer) const;
  std::uint64_t bytes() const;
  static std::uint64_t bytes_for(const Hyperparameters& h, std::size_t n) {
    return (std::uint64_t)h.n_rot * sizeof(float) * n * used(h);
  }

 private:
  // Sliding-window layers may be rotated in a way of their own.
  static std::size_t used(const Hyperparameters& h);

  const LoadedModel& model_;
  std::size_t n_ = 0;
  std::vector<std::vector<float>> tables_;  // by Hyperparameters::ropes: [n_rot, n]
};

}  // namespace lacake
