#include "product/int8.h"

#include <cassert>
#include <vector>

#include "cpu/target.h"
#include "product/int8_avx512_inl.h"

namespace lacake::product {

bool has_int8() { return LACAKE_PRODUCT_AVX512 && cpu::uses_avx512_vnni(); }

void multiply_packed(const Packed& m, std::size_t tile, const std::byte* columns, std::size_t n_columns, float* out,
                     std::size_t out_stride) {
  assert(has_int8());
#if LACAKE_PRODUCT_AVX512
  avx512::multiply_packed(m, tile, columns, n_columns, out, out_stride);
#endif
}

void multiply_tile(const Tile& tile, std::size_t n_in, std::size_t n_rows, const std::byte* columns,
                   std::size_t n_columns, float* out, std::size_t out_stride) {
  assert(has_int8());
#if LACAKE_PRODUCT_AVX512
  avx512::multiply_tile(tile, n_in, n_rows, columns, n_columns, out, out_stride);
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

}  // namespace lacake::product
