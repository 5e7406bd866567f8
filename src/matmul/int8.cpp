#include "matmul/int8.h"

#include <cassert>
#include <vector>

#include "cpu/target.h"
#include "matmul/int8_targets.h"

namespace lacake::matmul {

namespace {

// The best one that the target in use has.
#if LACAKE_PRODUCT_INT8
struct Kernels {
  decltype(avx2::multiply_packed)* packed;
  decltype(avx2::multiply_tile)* tile;
};

Kernels kernels() {
  if (cpu::uses_avx512_vnni()) return {avx512_vnni::multiply_packed, avx512_vnni::multiply_tile};
  if (cpu::uses_avx_vnni()) return {avx_vnni::multiply_packed, avx_vnni::multiply_tile};
  return {avx2::multiply_packed, avx2::multiply_tile};
}
#endif

}  // namespace

bool has_int8() { return LACAKE_PRODUCT_INT8 && cpu::uses_avx2(); }

void multiply_packed(const Packed& m, TileRange tiles, const std::byte* columns, std::size_t n_columns, float* out,
                     std::size_t out_stride) {
  assert(has_int8());
#if LACAKE_PRODUCT_INT8
  kernels().packed(m, tiles, columns, n_columns, out, out_stride);
#endif
}

void multiply_tile(const Tile& tile, int bits, std::size_t n_in, std::size_t n_rows, const std::byte* columns,
                   std::size_t n_columns, float* out, std::size_t out_stride) {
  assert(has_int8());
#if LACAKE_PRODUCT_INT8
  kernels().tile(tile, bits, n_in, n_rows, columns, n_columns, out, out_stride);
#endif
}

void reference::multiply(const Matrix& m, std::size_t first, std::size_t last, const std::byte* columns,
                         std::size_t n_columns, float* out, std::size_t out_stride) {
  std::vector<float> row(m.n_in);
  for (std::size_t i = first; i < last; ++i) {
    ggml_get_type_traits(m.type)->to_float(m.row(i), row.data(), (std::int64_t)m.n_in);
    for (std::size_t c = 0; c < n_columns; ++c) {
      const Column x = column_at(columns, m.n_in, c);
      double sum = 0;
      for (std::size_t k = 0; k < m.n_in; ++k) sum += (double)row[k] * x.scales[k / kBlock] * x.values[k];
      out[c * out_stride + i] = (float)sum;
    }
  }
}

}  // namespace lacake::matmul
