// Rows times a Hadamard matrix: stages of sums and differences of numbers 1, 2, 4 .. apart, inside of vectors and then
// between them.

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "attention/mix.h"
#include "attention/vector_inl.h"

#if defined(LACAKE_ATTENTION_MIX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_MIX_INL_H_
#undef LACAKE_ATTENTION_MIX_INL_H_
#else
#define LACAKE_ATTENTION_MIX_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

#if !HWY_HAVE_SCALABLE && HWY_TARGET != HWY_SCALAR

// Lane i of the result is lane i ^ kApart of v.
template <std::size_t kApart>
HWY_INLINE Vector partners(Vector v) {
  if constexpr (kApart == 1) {
    return hn::Shuffle2301(v);
  } else if constexpr (kApart == 2) {
    return hn::Shuffle1032(v);
  } else if constexpr (kApart == 4) {
    return hn::SwapAdjacentBlocks(v);
  } else {
    return hn::SwapAdjacentBlocks(hn::ReverseBlocks(Lanes32(), v));
  }
}

// Each pair of lanes that are kApart apart: its sum and its difference. Times +-1 and one addition: exact but for that.
template <std::size_t kApart>
HWY_INLINE Vector stage(Vector v) {
  alignas(64) static constexpr float kSigns[4][16] = {{1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
                                                      {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
                                                      {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
                                                      {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1}};
  constexpr int kRow = kApart == 1 ? 0 : kApart == 2 ? 1 : kApart == 4 ? 2 : 3;
  return hn::MulAdd(v, hn::Load(Lanes32(), kSigns[kRow]), partners<kApart>(v));
}

// All stages inside of a vector.
HWY_INLINE Vector stages(Vector v) {
  v = stage<2>(stage<1>(v));
  if constexpr (hn::MaxLanes(Lanes32()) >= 8) v = stage<4>(v);
  if constexpr (hn::MaxLanes(Lanes32()) >= 16) v = stage<8>(v);
  return v;
}

// Two stages between vectors.
HWY_INLINE void stage_of_four(Vector& a, Vector& b, Vector& c, Vector& e) {
  const Vector ab = hn::Add(a, b), a_b = hn::Sub(a, b), ce = hn::Add(c, e), c_e = hn::Sub(c, e);
  a = hn::Add(ab, ce), c = hn::Sub(ab, ce);
  b = hn::Add(a_b, c_e), e = hn::Sub(a_b, c_e);
}

// REQUIRES: n is a power of two, at least lanes()
HWY_INLINE void mix_vectors(float* x, std::size_t n, float scale) {
  const Lanes32 d;
  // The last pass over the block brings the scale.
  const auto factor = [&](std::size_t done) HWY_ATTR { return hn::Set(d, done == n ? scale : 1.0f); };
  const auto four = [&](float* at, std::size_t apart, Vector by, auto prepare) HWY_ATTR {
    Vector a = prepare(hn::LoadU(d, at)), b = prepare(hn::LoadU(d, at + apart));
    Vector c = prepare(hn::LoadU(d, at + 2 * apart)), e = prepare(hn::LoadU(d, at + 3 * apart));
    stage_of_four(a, b, c, e);
    hn::StoreU(hn::Mul(a, by), d, at);
    hn::StoreU(hn::Mul(b, by), d, at + apart);
    hn::StoreU(hn::Mul(c, by), d, at + 2 * apart);
    hn::StoreU(hn::Mul(e, by), d, at + 3 * apart);
  };
  std::size_t done = lanes();  // stages up to this distance
  if (n >= 4 * lanes()) {
    done = 4 * lanes();
    const Vector by = factor(done);
    for (std::size_t i = 0; i < n; i += done) {
      four(x + i, lanes(), by, [](Vector v) HWY_ATTR { return stages(v); });
    }
  } else {
    const Vector by = factor(done);
    for (std::size_t i = 0; i < n; i += lanes()) hn::StoreU(hn::Mul(stages(hn::LoadU(d, x + i)), by), d, x + i);
  }
  for (; 4 * done <= n; done *= 4) {
    const Vector by = factor(4 * done);
    for (std::size_t i = 0; i < n; i += 4 * done) {
      for (std::size_t j = i; j < i + done; j += lanes()) four(x + j, done, by, [](Vector v) HWY_ATTR { return v; });
    }
  }
  if (done == n) return;
  const Vector by = factor(n);
  for (std::size_t j = 0; j < done; j += lanes()) {
    const Vector a = hn::LoadU(d, x + j), b = hn::LoadU(d, x + done + j);
    hn::StoreU(hn::Mul(hn::Add(a, b), by), d, x + j);
    hn::StoreU(hn::Mul(hn::Sub(a, b), by), d, x + done + j);
  }
}
#endif

// REQUIRES: n is a power of two
HWY_INLINE void mix_plainly(float* x, std::size_t n, float scale) {
  for (std::size_t apart = 1; apart < n; apart *= 2) {
    for (std::size_t i = 0; i < n; i += 2 * apart) {
      for (std::size_t j = i; j < i + apart; ++j) {
        const float a = x[j], b = x[j + apart];
        x[j] = a + b;
        x[j + apart] = a - b;
      }
    }
  }
  for (std::size_t i = 0; i < n; ++i) x[i] *= scale;
}

HWY_INLINE void mix_rows(float* rows, std::size_t d, std::size_t n) {
  const std::size_t block = mix_block(d);
  const float scale = (float)(1 / std::sqrt((double)block));
  for (std::size_t i = 0; i < n * d; i += block) {
#if !HWY_HAVE_SCALABLE && HWY_TARGET != HWY_SCALAR
    if (block >= lanes()) {
      mix_vectors(rows + i, block, scale);
      continue;
    }
#endif
    mix_plainly(rows + i, block, scale);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_MIX_INL_H_
