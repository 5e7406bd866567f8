#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <limits>

#include "attention/attention.h"
#include "attention/layout.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/decode.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/product_inl.h"
#include "attention/tile_inl.h"
#include "attention/vector_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

// out[0 .. 3] = the sums of the lanes of a, b, c, d: together, because four sums one by one cost as much as the
// products of a head of 64.
HWY_INLINE void sum_lanes(Vector a, Vector b, Vector c, Vector d, float* out) {
  const Lanes32 tag;
#if HWY_TARGET == HWY_SCALAR
  const Vector sums[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) out[i] = hn::GetLane(sums[i]);
  (void)tag;
#else
  const hn::Repartition<std::uint64_t, Lanes32> pairs;
  const hn::CappedTag<float, 4> four;
  // In every 128-bit part: a0+a2 b0+b2 a1+a3 b1+b3, the same for c and d, then a b c d.
  const auto ab = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(tag, a, b), hn::InterleaveUpper(tag, a, b)));
  const auto cd = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(tag, c, d), hn::InterleaveUpper(tag, c, d)));
  const Vector abcd = hn::Add(hn::BitCast(tag, hn::InterleaveLower(pairs, ab, cd)),
                              hn::BitCast(tag, hn::InterleaveUpper(pairs, ab, cd)));
  HWY_ALIGN float parts[kMaxLanes];
  hn::StoreU(abcd, tag, parts);
  auto sum = hn::LoadU(four, parts);
  for (std::size_t i = 4; i < lanes(); i += 4) sum = hn::Add(sum, hn::LoadU(four, parts + i));
  hn::StoreU(sum, four, out);
#endif
}

// Products of four keys with one or two heads' queries -> weights [kDecodePiece, kHeads].
template <int kHeads, class Keys>
HWY_INLINE void multiply_four(const Keys& keys, std::size_t key, const float* q, std::size_t q_stride, std::size_t d_k,
                              float* weights) {
  const Lanes32 d;
  Vector a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  Vector b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  for (std::size_t i = 0; i < d_k; i += lanes()) {
    const Vector k0 = keys.load(key, i), k1 = keys.load(key + 1, i);
    const Vector k2 = keys.load(key + 2, i), k3 = keys.load(key + 3, i);
    const Vector qa = hn::LoadU(d, q + i);
    a0 = hn::MulAdd(k0, qa, a0), a1 = hn::MulAdd(k1, qa, a1);
    a2 = hn::MulAdd(k2, qa, a2), a3 = hn::MulAdd(k3, qa, a3);
    if constexpr (kHeads > 1) {
      const Vector qb = hn::LoadU(d, q + q_stride + i);
      b0 = hn::MulAdd(k0, qb, b0), b1 = hn::MulAdd(k1, qb, b1);
      b2 = hn::MulAdd(k2, qb, b2), b3 = hn::MulAdd(k3, qb, b3);
    }
  }
  sum_lanes(a0, a1, a2, a3, weights + key);
  if constexpr (kHeads > 1) sum_lanes(b0, b1, b2, b3, weights + kDecodePiece + key);
}

class Piece {
 public:
  Piece(const DecodeCall& call, float* scratch)
      : call_(call), shape_(call.shape), at_(shape_), n_(call.end - call.begin), scratch_(scratch) {
    for (std::size_t h = 0; h < group(); ++h) {
      const float* q = call.q + h * (std::size_t)shape_.d_k;
      float* to = scratch_ + at_.queries + h * at_.query_stride;
      for (int d = 0; d < shape_.d_k; ++d) to[d] = q[d] * shape_.scale;
      std::fill(to + shape_.d_k, to + at_.query_stride, 0.0f);
    }
    std::fill_n(out(0), group() * at_.out_stride, 0.0f);
  }

  HWY_INLINE void run() const {
    for (std::size_t begin = 0; begin < n_; begin += kRunRows) multiply_keys(begin, std::min(kRunRows, n_ - begin));
    for (std::size_t h = 0; h < group(); ++h) exponentiate(h);
    for (std::size_t begin = 0; begin < n_; begin += kRunRows) add_values(begin, std::min(kRunRows, n_ - begin));
    for (std::size_t h = 0; h < group(); ++h) {
      std::copy_n(out(h), shape_.d_v, call_.partial + h * partial_floats(shape_) + 2);
    }
  }

 private:
  std::size_t group() const { return (std::size_t)shape_.group; }
  float* weights(std::size_t head) const { return scratch_ + at_.weights + head * kDecodePiece; }
  float* out(std::size_t head) const { return scratch_ + at_.out + head * at_.out_stride; }

  // Keys are used as they lie, converted in registers, if they need no rotation and no padding; otherwise from a run in
  // L1. Both give the same products.
  HWY_INLINE void multiply_keys(std::size_t begin, std::size_t n) const {
    const Rows& rows = call_.rows;
    const auto* stored = static_cast<const std::byte*>(rows.k) + (call_.begin + begin) * rows.k_stride;
    const bool plain = !rows.rope_index && (std::size_t)shape_.d_k % lanes() == 0 && n % 4 == 0;
    if (plain && shape_.type_k == GGML_TYPE_F16) {
      multiply(RowsF16{stored, rows.k_stride}, begin, n);
    } else if (plain && shape_.type_k == GGML_TYPE_F32) {
      multiply(RowsF32{stored, rows.k_stride}, begin, n);
    } else {
      load_key_tile(shape_, rows, call_.begin + begin, n, scratch_ + at_.run, at_.query_stride);
      multiply(run_rows(at_.query_stride), begin, round_up(n, 4));
    }
  }

  template <class Keys>
  HWY_INLINE void multiply(const Keys& keys, std::size_t begin, std::size_t n) const {
    const auto d_k = (std::size_t)shape_.d_k;
    for (std::size_t key = 0; key < n; key += 4) {
      std::size_t h = 0;
      for (; h + 2 <= group(); h += 2) {
        multiply_four<2>(keys, key, query(h), at_.query_stride, d_k, weights(h) + begin);
      }
      if (h < group()) multiply_four<1>(keys, key, query(h), at_.query_stride, d_k, weights(h) + begin);
    }
  }

  // Logits -> exp(logit - largest); largest and sum go to the partial result, the logits where they are asked for.
  HWY_INLINE void exponentiate(std::size_t h) const {
    const Lanes32 d;
    float* w = weights(h);
    if (call_.logits) std::copy_n(w, n_, call_.logits + h * call_.logits_stride + call_.begin);

    const std::size_t padded = round_up(n_, lanes());
    std::fill(w + n_, w + padded, -std::numeric_limits<float>::infinity());
    Vector top = hn::Set(d, -std::numeric_limits<float>::infinity());
    for (std::size_t i = 0; i < padded; i += lanes()) top = hn::Max(top, hn::LoadU(d, w + i));
    top = hn::MaxOfLanes(d, top);

    Vector sum = hn::Zero(d);
    for (std::size_t i = 0; i < padded; i += lanes()) {
      const Vector p = exp_negative(hn::Sub(hn::LoadU(d, w + i), top));
      hn::StoreU(p, d, w + i);
      sum = hn::Add(sum, p);
    }
    float* partial = call_.partial + h * partial_floats(shape_);
    partial[0] = hn::GetLane(top);
    partial[1] = hn::GetLane(hn::SumOfLanes(d, sum));
  }

  HWY_INLINE void add_values(std::size_t begin, std::size_t n) const {
    const Rows& rows = call_.rows;
    const auto* stored = static_cast<const std::byte*>(rows.v) + (call_.begin + begin) * rows.v_stride;
    const bool plain = (std::size_t)shape_.d_v % (2 * lanes()) == 0;
    if (plain && shape_.type_v == GGML_TYPE_F16) {
      add(RowsF16{stored, rows.v_stride}, begin, n);
    } else if (plain && shape_.type_v == GGML_TYPE_F32) {
      add(RowsF32{stored, rows.v_stride}, begin, n);
    } else {
      load_value_tile(shape_, rows, call_.begin + begin, n, scratch_ + at_.run, at_.out_stride);
      add(run_rows(at_.out_stride), begin, n);
    }
  }

  // A run of V is read from memory once; heads and columns after the first find it in L1.
  template <class Values>
  HWY_INLINE void add(const Values& values, std::size_t begin, std::size_t n) const {
    for (std::size_t x = 0; x < (std::size_t)shape_.d_v; x += 2 * lanes()) {
      for (std::size_t h = 0; h < group(); h += 4) {
        const Scalars a{weights(h) + begin, kDecodePiece, 1};
        switch (std::min<std::size_t>(4, group() - h)) {
          case 4:
            product_block<4, Start::kStored>(a, values, x, n, out(h), at_.out_stride);
            break;
          case 3:
            product_block<3, Start::kStored>(a, values, x, n, out(h), at_.out_stride);
            break;
          case 2:
            product_block<2, Start::kStored>(a, values, x, n, out(h), at_.out_stride);
            break;
          default:
            product_block<1, Start::kStored>(a, values, x, n, out(h), at_.out_stride);
            break;
        }
      }
    }
  }

  const float* query(std::size_t head) const { return scratch_ + at_.queries + head * at_.query_stride; }
  RowsF32 run_rows(std::size_t stride) const {
    return {reinterpret_cast<const std::byte*>(scratch_ + at_.run), stride * sizeof(float)};
  }

  const DecodeCall& call_;
  const Shape& shape_;
  const DecodeLayout at_;
  const std::size_t n_;
  float* const scratch_;
};

}  // namespace

void decode(const DecodeCall& call, float* scratch) { Piece(call, scratch).run(); }

void logits_to_probabilities(float* values, std::size_t n, float largest, float sum) {
  normalise(values, n, largest, sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(decode);
HWY_EXPORT(logits_to_probabilities);

std::size_t decode_scratch(const Shape& shape) { return DecodeLayout(shape).end * sizeof(float); }

void decode(const DecodeCall& call, std::span<std::byte> scratch) {
  assert(call.begin < call.end && call.end - call.begin <= kDecodePiece);
  assert(scratch.size() >= decode_scratch(call.shape));
  HWY_DYNAMIC_DISPATCH(decode)(call, reinterpret_cast<float*>(scratch.data()));
}

void combine(const Shape& shape, const float* partials, std::size_t n_pieces, float* out, float* logits,
             std::size_t logits_stride, std::size_t n_rows) {
  const auto group = (std::size_t)shape.group;
  const auto d_v = (std::size_t)shape.d_v;
  for (std::size_t h = 0; h < group; ++h) {
    const auto partial = [&](std::size_t piece) { return partials + (piece * group + h) * partial_floats(shape); };
    float largest = -std::numeric_limits<float>::infinity();
    for (std::size_t piece = 0; piece < n_pieces; ++piece) largest = std::max(largest, partial(piece)[0]);

    float* to = out + h * d_v;
    std::fill_n(to, d_v, 0.0f);
    float sum = 0;
    for (std::size_t piece = 0; piece < n_pieces; ++piece) {
      const float weight = std::exp(partial(piece)[0] - largest);
      sum += weight * partial(piece)[1];
      for (std::size_t d = 0; d < d_v; ++d) to[d] += weight * partial(piece)[2 + d];
    }
    const float inverse = 1.0f / sum;
    for (std::size_t d = 0; d < d_v; ++d) to[d] *= inverse;
    if (logits) HWY_DYNAMIC_DISPATCH(logits_to_probabilities)(logits + h * logits_stride, n_rows, largest, sum);
  }
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
