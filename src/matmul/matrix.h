#pragma once

// A matrix of weights as a GGUF file stores it, and the products that this folder can take of it.

#include <cstddef>
#include <cstdint>

#include "ggml.h"

namespace lacake::matmul {

// Rows of `n_in` weights in a ggml type, `n_out` of them, one after the other. Borrows the data.
struct Matrix {
  const std::byte* data = nullptr;
  ggml_type type = GGML_TYPE_F32;
  std::size_t n_in = 0;
  std::size_t n_out = 0;

  std::size_t row_bytes() const { return ggml_row_size(type, (std::int64_t)n_in); }
  const std::byte* row(std::size_t i) const { return data + i * row_bytes(); }
};

// Columns are quantised, and 8-bit weights share a scale and an offset, in blocks of this many.
inline constexpr std::size_t kBlock = 32;

// Rows of a matrix that are unpacked together: two vectors of 16 floats.
inline constexpr std::size_t kTileRows = 32;

}  // namespace lacake::matmul
