#pragma once

#include <cstddef>

namespace lacake::matmul {

// The sum of a[i] b[i] for i < n, f32. 64 sums side by side, added in the same order on every instruction set; a
// product is rounded by itself only where the machine has no fused multiply-add. Any thread.
float dot(const float* a, const float* b, std::size_t n);

}  // namespace lacake::matmul
