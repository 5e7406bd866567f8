// Products of stored keys with the queries of a head group, for one query: the first half of decode.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/attention.h"
#include "attention/layout.h"
#include "attention/rows_inl.h"
#include "attention/vector_inl.h"

#if defined(LACAKE_ATTENTION_LOGITS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_LOGITS_INL_H_
#undef LACAKE_ATTENTION_LOGITS_INL_H_
#else
#define LACAKE_ATTENTION_LOGITS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

// Keys used as they lie. Products take a key two vectors at a time up to turned(), then one at a time; the queries
// stand in the same order.
template <class Rows>
struct PlainKeys {
  Rows rows;
  HWY_INLINE std::size_t turned() const { return 0; }
  HWY_INLINE void load_pair(std::size_t, std::size_t, Vector&, Vector&) const {}
  HWY_INLINE Vector load(std::size_t row, std::size_t column) const { return rows.load(row, column); }
  HWY_INLINE void bring_angles(std::size_t) const {}
};

#if HWY_TARGET != HWY_SCALAR
// Rows that lie without their center (key_form.h).
//   center  [d_k]
template <class Rows>
struct CenteredRows {
  Rows rows;
  const float* center;

  HWY_INLINE Vector load(std::size_t row, std::size_t column) const {
    return hn::Add(rows.load(row, column), hn::LoadU(Lanes32(), center + column));
  }
};

// Keys rotated in registers. Of 2 * lanes() numbers that turn with each other, the first of each pair come in one
// vector and the second ones in the other.
//   index  the keys' positions; those of `n_index` rows may be read
// REQUIRES: n_rot is a multiple of 2 * lanes()
template <class Rows, bool kNeox>
struct TurnedKeys {
  Rows rows;
  Rope rope;
  const std::int32_t* index;
  std::size_t n_index;

  HWY_INLINE std::size_t turned() const { return (std::size_t)rope.n_rot; }
  HWY_INLINE void load_pair(std::size_t row, std::size_t column, Vector& x, Vector& y) const {
    const Lanes32 d;
    const std::size_t half = (std::size_t)rope.n_rot / 2;
    const float* angles = rope.table + (std::size_t)index[row] * (std::size_t)rope.n_rot + column / 2;
    const Vector cosine = hn::LoadU(d, angles), sine = hn::LoadU(d, angles + half);
    Vector a, b;
    if constexpr (kNeox) {
      a = rows.load(row, column / 2);
      b = rows.load(row, half + column / 2);
    } else {
      const Vector first = rows.load(row, column), second = rows.load(row, column + lanes());
      a = hn::ConcatEven(d, second, first);
      b = hn::ConcatOdd(d, second, first);
    }
    x = hn::NegMulAdd(b, sine, hn::Mul(a, cosine));
    y = hn::MulAdd(a, sine, hn::Mul(b, cosine));
  }
  HWY_INLINE Vector load(std::size_t row, std::size_t column) const { return rows.load(row, column); }
  // Angles lie in memory row by row, in no order that hardware could foresee.
  HWY_INLINE void bring_angles(std::size_t row) const {
    if (row >= n_index) return;
    const float* angles = rope.table + (std::size_t)index[row] * (std::size_t)rope.n_rot;
    bring(reinterpret_cast<const std::byte*>(angles), (std::size_t)rope.n_rot * sizeof(float));
  }
};
#endif

// Queries in the order in which TurnedKeys gives keys: [d_k] -> [d_k].
HWY_INLINE void order_as_turned(const Rope& rope, const float* q, int d_k, float* to) {
  const std::size_t n_rot = (std::size_t)rope.n_rot, n = lanes();
  for (std::size_t x = 0; x < n_rot; x += 2 * n) {
    for (std::size_t i = 0; i < n; ++i) {
      const Rope::Pair pair = rope.pair(x / 2 + i);
      to[x + i] = q[pair.a];
      to[x + n + i] = q[pair.b];
    }
  }
  std::copy(q + n_rot, q + d_k, to + n_rot);
}

#if !HWY_HAVE_SCALABLE && HWY_TARGET != HWY_SCALAR
// The 128-bit parts of a vector, added up.
template <class D>
HWY_INLINE hn::Vec<hn::CappedTag<float, 4>> add_parts([[maybe_unused]] D d, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return add_parts(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}
#endif

// out[0 .. 3] = the sums of the lanes of a, b, c, d: together, because four sums one by one cost as much as the
// products of a head of 64.
HWY_INLINE void sum_lanes(Vector a, Vector b, Vector c, Vector d, float* out) {
  const Lanes32 tag;
#if HWY_TARGET == HWY_SCALAR
  out[0] = hn::GetLane(a), out[1] = hn::GetLane(b), out[2] = hn::GetLane(c), out[3] = hn::GetLane(d);
  (void)tag;
#else
  const hn::Repartition<std::uint64_t, Lanes32> pairs;
  const hn::CappedTag<float, 4> four;
  // In every 128-bit part: a0+a2 b0+b2 a1+a3 b1+b3, the same for c and d, then a b c d.
  const auto ab = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(tag, a, b), hn::InterleaveUpper(tag, a, b)));
  const auto cd = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(tag, c, d), hn::InterleaveUpper(tag, c, d)));
  const Vector abcd = hn::Add(hn::BitCast(tag, hn::InterleaveLower(pairs, ab, cd)),
                              hn::BitCast(tag, hn::InterleaveUpper(pairs, ab, cd)));
#if HWY_HAVE_SCALABLE
  HWY_ALIGN float parts[kMaxLanes];
  hn::StoreU(abcd, tag, parts);
  auto sum = hn::LoadU(four, parts);
  for (std::size_t i = 4; i < lanes(); i += 4) sum = hn::Add(sum, hn::LoadU(four, parts + i));
  hn::StoreU(sum, four, out);
#else
  hn::StoreU(add_parts(tag, abcd), four, out);
#endif
#endif
}

// Rows of four keys: the last ones may repeat where there are fewer.
struct Four {
  std::size_t k0, k1, k2, k3;
};

// Products of four keys with the queries of up to four heads -> weights [kDecodePiece, kHeads], at the keys' place.
template <int kHeads, class Keys>
HWY_INLINE void multiply_four(const Keys& keys, const Four& at, const float* q, std::size_t q_stride, std::size_t d_k,
                              float* weights) {
  const Lanes32 d;
  Vector a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  Vector b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  Vector c0 = a0, c1 = a0, c2 = a0, c3 = a0;
  Vector e0 = a0, e1 = a0, e2 = a0, e3 = a0;
  // Key by key, so that three heads' sums, their queries and one key fit into 16 registers.
  const auto add = [&](std::size_t i, const auto& k0, const auto& k1, const auto& k2, const auto& k3) HWY_ATTR
      __attribute__((always_inline)) {
    const Vector qa = hn::LoadU(d, q + i);
    Vector qb = qa, qc = qa, qe = qa;
    if constexpr (kHeads > 1) qb = hn::LoadU(d, q + q_stride + i);
    if constexpr (kHeads > 2) qc = hn::LoadU(d, q + 2 * q_stride + i);
    if constexpr (kHeads > 3) qe = hn::LoadU(d, q + 3 * q_stride + i);
    const auto add_key = [&](Vector k, Vector& a, Vector& b, Vector& c, Vector& e) LACAKE_IN_REGISTERS {
      a = hn::MulAdd(k, qa, a);
      if constexpr (kHeads > 1) b = hn::MulAdd(k, qb, b);
      if constexpr (kHeads > 2) c = hn::MulAdd(k, qc, c);
      if constexpr (kHeads > 3) e = hn::MulAdd(k, qe, e);
    };
    add_key(k0(), a0, b0, c0, e0);
    add_key(k1(), a1, b1, c1, e1);
    add_key(k2(), a2, b2, c2, e2);
    add_key(k3(), a3, b3, c3, e3);
  };
  std::size_t i = 0;
  for (; i < keys.turned(); i += 2 * lanes()) {
    Vector x0, x1, x2, x3, y0, y1, y2, y3;
    keys.load_pair(at.k0, i, x0, y0), keys.load_pair(at.k1, i, x1, y1);
    keys.load_pair(at.k2, i, x2, y2), keys.load_pair(at.k3, i, x3, y3);
    const auto of = [](const Vector& k) LACAKE_IN_REGISTERS { return [&k]() LACAKE_IN_REGISTERS { return k; }; };
    add(i, of(x0), of(x1), of(x2), of(x3));
    add(i + lanes(), of(y0), of(y1), of(y2), of(y3));
  }
  for (; i < d_k; i += lanes()) {
    const auto of = [&](std::size_t key) LACAKE_IN_REGISTERS {
      return [&keys, key, i]() LACAKE_IN_REGISTERS { return keys.load(key, i); };
    };
    add(i, of(at.k0), of(at.k1), of(at.k2), of(at.k3));
  }
  sum_lanes(a0, a1, a2, a3, weights);
  if constexpr (kHeads > 1) sum_lanes(b0, b1, b2, b3, weights + kDecodePiece);
  if constexpr (kHeads > 2) sum_lanes(c0, c1, c2, c3, weights + 2 * kDecodePiece);
  if constexpr (kHeads > 3) sum_lanes(e0, e1, e2, e3, weights + 3 * kDecodePiece);
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_LOGITS_INL_H_
