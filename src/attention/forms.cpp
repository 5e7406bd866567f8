#include "attention/forms.h"

#include <algorithm>
#include <cmath>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/forms.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/vector_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

// use(row, a, b): the products of kRows rows w [n] with two vectors of entries from x on, row after row.
template <std::size_t kRows, class Use>
HWY_INLINE void with_products(const float* w, std::size_t stride, std::size_t n, const float* x, const Use& use) {
  static_assert(kRows == 1 || kRows == 4);
  const Lanes32 d;
  const std::size_t step = lanes();
  Vector a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  for (std::size_t c = 0; c < n; ++c, x += kFormEntries, ++w) {
    const Vector a = hn::LoadU(d, x), b = hn::LoadU(d, x + step);
    const Vector w0 = hn::Set(d, w[0]);
    a0 = hn::MulAdd(w0, a, a0), b0 = hn::MulAdd(w0, b, b0);
    if constexpr (kRows == 4) {
      const Vector w1 = hn::Set(d, w[stride]), w2 = hn::Set(d, w[2 * stride]), w3 = hn::Set(d, w[3 * stride]);
      a1 = hn::MulAdd(w1, a, a1), b1 = hn::MulAdd(w1, b, b1);
      a2 = hn::MulAdd(w2, a, a2), b2 = hn::MulAdd(w2, b, b2);
      a3 = hn::MulAdd(w3, a, a3), b3 = hn::MulAdd(w3, b, b3);
    }
  }
  use(0, a0, b0);
  if constexpr (kRows == 4) use(1, a1, b1), use(2, a2, b2), use(3, a3, b3);
}

// The vectors of a block, two at a time; one, twice over, where they fill it alone.
template <class Use>
HWY_INLINE void each_pair(const Use& use) {
  static_assert(kFormEntries % (2 * 16) == 0);
  for (std::size_t at = 0; at < kFormEntries; at += 2 * lanes()) use(at);
}

}  // namespace

void quadratic_forms(const float* halves, const float* linear, std::size_t d, const float* block, float* out) {
  const Lanes32 f;
  const std::size_t step = lanes();
  each_pair([&](std::size_t at) HWY_ATTR {
    const float* x = block + at;
    Vector a = hn::Zero(f), b = a;
    for (std::size_t c = 0; linear && c < d; ++c) {
      const Vector w = hn::Set(f, linear[c]);
      a = hn::MulAdd(w, hn::LoadU(f, x + c * kFormEntries), a);
      b = hn::MulAdd(w, hn::LoadU(f, x + c * kFormEntries + step), b);
    }
    std::size_t row = 0;
    const auto add = [&](std::size_t i, Vector pa, Vector pb) LACAKE_IN_REGISTERS {
      const float* own = x + (row + i) * kFormEntries;
      a = hn::MulAdd(pa, hn::LoadU(f, own), a);
      b = hn::MulAdd(pb, hn::LoadU(f, own + step), b);
    };
    for (; row + 4 <= d; row += 4) with_products<4>(halves + row * d, d, row + 4, x, add);
    for (; row < d; ++row) with_products<1>(halves + row * d, d, row + 1, x, add);
    hn::StoreU(a, f, out + at);
    hn::StoreU(b, f, out + at + step);
  });
}

void add_absolute_products(const float* rows, std::size_t n_rows, std::size_t stride, std::size_t d, const float* block,
                           float* sums) {
  const Lanes32 f;
  const std::size_t step = lanes();
  each_pair([&](std::size_t at) HWY_ATTR {
    const float* x = block + at;
    Vector a = hn::LoadU(f, sums + at), b = hn::LoadU(f, sums + at + step);
    const auto add = [&](std::size_t, Vector pa, Vector pb) LACAKE_IN_REGISTERS {
      a = hn::Add(a, hn::Abs(pa));
      b = hn::Add(b, hn::Abs(pb));
    };
    std::size_t row = 0;
    for (; row + 4 <= n_rows; row += 4) with_products<4>(rows + row * stride, stride, d, x, add);
    for (; row < n_rows; ++row) with_products<1>(rows + row * stride, stride, d, x, add);
    hn::StoreU(a, f, sums + at);
    hn::StoreU(b, f, sums + at + step);
  });
}

namespace {

// Adds to kRows rows of products, from row r on, a vector of their columns from c on.
template <std::size_t kRows>
HWY_INLINE void outer_tile(const float* rows, std::size_t n_rows, std::size_t stride, const float* pivot, std::size_t d,
                           std::size_t r, std::size_t c, float* products) {
  const Lanes32 f;
  const Vector off = hn::LoadU(f, pivot + c);
  Vector s0 = hn::Zero(f), s1 = s0, s2 = s0, s3 = s0;
  for (std::size_t j = 0; j < n_rows; ++j) {
    const float* x = rows + j * stride;
    const Vector column = hn::Sub(hn::LoadU(f, x + c), off);
    s0 = hn::MulAdd(hn::Set(f, x[r] - pivot[r]), column, s0);
    if constexpr (kRows == 4) {
      s1 = hn::MulAdd(hn::Set(f, x[r + 1] - pivot[r + 1]), column, s1);
      s2 = hn::MulAdd(hn::Set(f, x[r + 2] - pivot[r + 2]), column, s2);
      s3 = hn::MulAdd(hn::Set(f, x[r + 3] - pivot[r + 3]), column, s3);
    }
  }
  float* to = products + r * d + c;
  const auto add = [&](std::size_t row, Vector sum)
                       LACAKE_IN_REGISTERS { hn::StoreU(hn::Add(hn::LoadU(f, to + row * d), sum), f, to + row * d); };
  add(0, s0);
  if constexpr (kRows == 4) add(1, s1), add(2, s2), add(3, s3);
}

// Rows r .. r + kRows - 1 up to the diagonal; what fills no vector one by one.
template <std::size_t kRows>
HWY_INLINE void outer_rows(const float* rows, std::size_t n_rows, std::size_t stride, const float* pivot, std::size_t d,
                           std::size_t r, float* products) {
  std::size_t c = 0;
  for (; c < r + kRows && c + lanes() <= d; c += lanes()) {
    outer_tile<kRows>(rows, n_rows, stride, pivot, d, r, c, products);
  }
  for (; c < r + kRows; ++c) {
    for (std::size_t row = r; row < r + kRows; ++row) {
      float sum = 0;
      for (std::size_t j = 0; j < n_rows; ++j) {
        sum += (rows[j * stride + row] - pivot[row]) * (rows[j * stride + c] - pivot[c]);
      }
      products[row * d + c] += sum;
    }
  }
}

}  // namespace

void add_outer_products(const float* rows, std::size_t n_rows, std::size_t stride, const float* pivot, std::size_t d,
                        float* products) {
  std::size_t r = 0;
  for (; r + 4 <= d; r += 4) outer_rows<4>(rows, n_rows, stride, pivot, d, r, products);
  for (; r < d; ++r) outer_rows<1>(rows, n_rows, stride, pivot, d, r, products);
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(quadratic_forms);
HWY_EXPORT(add_absolute_products);
HWY_EXPORT(add_outer_products);

void put_in_block(const float* row, std::size_t d, std::size_t column, float* block) {
  for (std::size_t c = 0; c < d; ++c) block[c * kFormEntries + column] = row[c];
}

void take_halves(float* matrix, std::size_t d) {
  for (std::size_t r = 0; r < d; ++r) {
    for (std::size_t c = 0; c < r; ++c) matrix[r * d + c] *= 2;
    std::fill(matrix + r * d + r + 1, matrix + (r + 1) * d, 0.0f);
  }
}

void quadratic_forms(const float* halves, const float* linear, std::size_t d, const float* block, float* out) {
  HWY_DYNAMIC_DISPATCH(quadratic_forms)(halves, linear, d, block, out);
}

void add_absolute_products(const float* rows, std::size_t n_rows, std::size_t stride, std::size_t d, const float* block,
                           float* sums) {
  HWY_DYNAMIC_DISPATCH(add_absolute_products)(rows, n_rows, stride, d, block, sums);
}

void add_outer_products(const float* rows, std::size_t n_rows, std::size_t stride, const float* pivot, std::size_t d,
                        float* products) {
  std::vector<float> zeros;
  if (!pivot) zeros.resize(d), pivot = zeros.data();
  HWY_DYNAMIC_DISPATCH(add_outer_products)(rows, n_rows, stride, pivot, d, products);
}

namespace reference {

void quadratic_forms(const float* halves, const float* linear, std::size_t d, const float* block, float* out) {
  for (std::size_t i = 0; i < kFormEntries; ++i) {
    double sum = 0;
    for (std::size_t r = 0; r < d; ++r) {
      const double x = block[r * kFormEntries + i];
      if (linear) sum += linear[r] * x;
      for (std::size_t c = 0; c <= r; ++c) sum += (double)halves[r * d + c] * block[c * kFormEntries + i] * x;
    }
    out[i] = (float)sum;
  }
}

void add_absolute_products(const float* rows, std::size_t n_rows, std::size_t stride, std::size_t d, const float* block,
                           float* sums) {
  for (std::size_t i = 0; i < kFormEntries; ++i) {
    double all = sums[i];
    for (std::size_t r = 0; r < n_rows; ++r) {
      double product = 0;
      for (std::size_t c = 0; c < d; ++c) product += (double)rows[r * stride + c] * block[c * kFormEntries + i];
      all += std::abs(product);
    }
    sums[i] = (float)all;
  }
}

void add_outer_products(const float* rows, std::size_t n_rows, std::size_t stride, const float* pivot, std::size_t d,
                        float* products) {
  for (std::size_t r = 0; r < d; ++r) {
    for (std::size_t c = 0; c <= r; ++c) {
      double sum = 0;
      for (std::size_t j = 0; j < n_rows; ++j) {
        const float* x = rows + j * stride;
        sum += ((double)x[r] - (pivot ? pivot[r] : 0)) * ((double)x[c] - (pivot ? pivot[c] : 0));
      }
      products[r * d + c] += (float)sum;
    }
  }
}

}  // namespace reference
}  // namespace lacake::attention
#endif  // HWY_ONCE
