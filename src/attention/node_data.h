#pragma once

// What attention's nodes get from a ggml graph: rows of its tensors, and memory to work in.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ggml.h"

namespace lacake::attention {

// Of a tensor [d, heads, columns] f32.
inline const float* row_of(const ggml_tensor* t, std::int64_t head, std::int64_t column) {
  return (const float*)((const char*)t->data + head * (std::int64_t)t->nb[1] + column * (std::int64_t)t->nb[2]);
}

inline constexpr std::size_t kScratchAlignment = 64;

// Scratch for every thread of a graph, as one block.
class Scratch {
 public:
  void reserve(int n_threads, std::size_t bytes_each);
  std::span<std::byte> of(int thread);
  std::uint64_t bytes() const { return memory_.size(); }

 private:
  std::vector<std::byte> memory_;
  std::size_t each_ = 0;
};

}  // namespace lacake::attention
