#include "attention/mix.h"

#include <bit>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/mix.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/mix_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

void mix(float* rows, std::size_t d, std::size_t n) { mix_rows(rows, d, n); }

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(mix);

void mix(float* rows, std::size_t d, std::size_t n) { HWY_DYNAMIC_DISPATCH(mix)(rows, d, n); }

namespace reference {

double mix_element(std::size_t block, std::size_t row, std::size_t column) {
  const double size = 1 / std::sqrt((double)block);
  return std::popcount(row & column) % 2 == 0 ? size : -size;
}

void mix(const float* row, std::size_t d, double* out) {
  const std::size_t block = mix_block(d);
  for (std::size_t i = 0; i < d; ++i) {
    const std::size_t first = i / block * block;
    out[i] = 0;
    for (std::size_t j = 0; j < block; ++j) out[i] += mix_element(block, i - first, j) * row[first + j];
  }
}

}  // namespace reference
}  // namespace lacake::attention
#endif  // HWY_ONCE
