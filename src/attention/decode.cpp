#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <type_traits>

#include "attention/attention.h"
#include "attention/layout.h"
#include "attention/mix.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/decode.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/logits_inl.h"
#include "attention/q8_dot_inl.h"
#include "attention/rows_inl.h"
#include "attention/tile_inl.h"
#include "attention/values_inl.h"
#include "attention/vector_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

// While rows are used, those that many bytes further are brought into L2. Measured on a Zen 4: 4 KiB leave a tenth of
// the speed, from 8 KiB on it is all the same.
constexpr std::size_t kAheadBytes = 8192;

class Piece {
 public:
  Piece(const DecodeCall& call, float* scratch)
      : call_(call), shape_(call.shape), at_(shape_), n_(call.end - call.begin), scratch_(scratch) {
    const std::size_t rot = (std::size_t)shape_.rope.n_rot, d_k = (std::size_t)shape_.d_k;
    in_registers_ = HWY_TARGET != HWY_SCALAR && d_k % lanes() == 0;
    turns_ = in_registers_ && call.rows.rope_index && rot % (2 * lanes()) == 0 && !is_mixed(shape_.type_k);
    if (call.rows.rope_index && !turns_) in_registers_ = false;
    for (std::size_t h = 0; h < group(); ++h) {
      const float* q = call.q + h * d_k;
      float* to = scratch_ + at_.queries + h * at_.query_stride;
      if (turns_) {
        order_as_turned(shape_.rope, q, shape_.d_k, to);
      } else {
        std::copy_n(q, d_k, to);
      }
      for (std::size_t d = 0; d < d_k; ++d) to[d] *= shape_.scale;
      std::fill(to + d_k, to + at_.query_stride, 0.0f);
    }
    std::fill_n(out(0), group() * at_.out_stride, 0.0f);
  }

  HWY_INLINE void run() const {
    multiply_keys();
    for (std::size_t h = 0; h < group(); ++h) {
      if (shape_.softcap > 0) cap(h);
      exponentiate(h);
    }
    add_values();
    for (std::size_t h = 0; h < group(); ++h) {
      std::copy_n(out(h), shape_.d_v, call_.partial + h * partial_floats(shape_) + 2);
    }
  }

 private:
  std::size_t group() const { return (std::size_t)shape_.group; }
  float* weights(std::size_t head) const { return scratch_ + at_.weights + head * kDecodePiece; }
  float* out(std::size_t head) const { return scratch_ + at_.out + head * at_.out_stride; }
  const std::byte* stored_k() const {
    return static_cast<const std::byte*>(call_.rows.k) + call_.begin * call_.rows.k_stride;
  }
  const std::byte* stored_v() const {
    return static_cast<const std::byte*>(call_.rows.v) + call_.begin * call_.rows.v_stride;
  }

  // Calls use(first head, number of heads), the latter a constant, until all of the group had their turn: kMost at a
  // time, but where that are three, four are two and two, which are better than three and one.
  template <int kMost, class Use>
  HWY_INLINE void for_heads(const Use& use) const {
    const auto n = (int)group();
    int h = 0;
    const auto take = [&](auto heads) HWY_ATTR {
      use((std::size_t)h, heads);
      h += heads();
    };
    while (n - h > 4 || n - h == kMost) take(std::integral_constant<int, kMost>());
    if constexpr (kMost > 3) {
      if (n - h == 3) take(std::integral_constant<int, 3>());
    }
    while (n - h >= 2) take(std::integral_constant<int, 2>());
    if (n - h == 1) take(std::integral_constant<int, 1>());
  }

  // What a piece reads, in bytes from its start: its keys, its values, then what the next piece reads first.
  const std::byte* stream(std::size_t at) const {
    const std::size_t k_bytes = n_ * call_.rows.k_stride, v_bytes = n_ * call_.rows.v_stride;
    if (at < k_bytes) return stored_k() + at;
    at -= k_bytes;
    if (at < v_bytes || !call_.next) return stored_v() + at;
    return static_cast<const std::byte*>(call_.next) + (at - v_bytes);
  }

  // Keys are used as they lie, converted and rotated in registers, if they and what turns of them are whole vectors;
  // otherwise from a run in L1.
  HWY_INLINE void multiply_keys() const {
    const Rows& rows = call_.rows;
#if LACAKE_ATTENTION_VNNI
    const auto as_bytes = [&](auto bytes) HWY_ATTR { multiply_bytes_of_keys<decltype(bytes)>(); };
    if (stay_bytes() && !rows.rope_index && with_bytes(shape_.type_k, as_bytes)) return;
#endif
    const auto use = [&](const auto& stored) HWY_ATTR {
#if HWY_TARGET != HWY_SCALAR
      if (turns_) {
        if constexpr (std::is_same_v<std::decay_t<decltype(stored)>, RowsQ80>) {
          if (shape_.key_form.center) return multiply_turned(CenteredRows<RowsQ80>{stored, shape_.key_form.center});
        }
        return multiply_turned(stored);
      }
#endif
      multiply_stored(PlainKeys<std::decay_t<decltype(stored)>>{stored});
    };
    if (in_registers_ && with_rows(shape_.type_k, stored_k(), rows.k_stride, use)) return;
    for (std::size_t begin = 0; begin < n_; begin += kRunRows) {
      const std::size_t n = std::min(kRunRows, n_ - begin);
      load_key_tile(shape_, rows, call_.begin + begin, n, scratch_ + at_.run, at_.query_stride);
      multiply(PlainKeys<RowsF32>{converted(at_.query_stride)}, 0, n, begin);
    }
  }

  template <class Keys>
  HWY_INLINE void multiply_stored(const Keys& keys) const {
    multiply(keys, 0, n_, 0);
  }

#if HWY_TARGET != HWY_SCALAR
  template <class Stored>
  HWY_INLINE void multiply_turned(const Stored& stored) const {
    const std::int32_t* index = call_.rows.rope_index + call_.begin;
    if (shape_.rope.neox) {
      multiply_stored(TurnedKeys<Stored, true>{stored, shape_.rope, index, n_});
    } else {
      multiply_stored(TurnedKeys<Stored, false>{stored, shape_.rope, index, n_});
    }
  }
#endif

  // Keys first .. first + n - 1 -> weights from `to` on. A key's products are the same whatever stands beside it.
  template <class Keys>
  HWY_INLINE void multiply(const Keys& keys, std::size_t first, std::size_t n, std::size_t to) const {
    constexpr int kHeads = kManyRegisters ? 4 : 3;
    const std::size_t last = first + n - 1, d_k = (std::size_t)shape_.d_k;
    for (std::size_t i = 0; i < n; i += 4) {
      const std::size_t key = first + i;
      const Four at{key, std::min(key + 1, last), std::min(key + 2, last), std::min(key + 3, last)};
      bring_far(stream((to + i) * call_.rows.k_stride + kAheadBytes), 4 * call_.rows.k_stride);
      for (std::size_t x = 0; x < 4; ++x) keys.bring_angles(key + kAnglesAhead + x);
      for_heads<kHeads>([&](std::size_t h, auto heads) HWY_ATTR {
        const float* q = scratch_ + at_.queries + h * at_.query_stride;
        multiply_four<heads()>(keys, at, q, at_.query_stride, d_k, weights(h) + to + i);
      });
    }
  }

#if LACAKE_ATTENTION_VNNI
  bool stay_bytes() const { return call_.arithmetic == Arithmetic::kInt16 && has_byte_products(); }

  template <class Bytes>
  HWY_INLINE void multiply_bytes_of_keys() const {
    const std::size_t n_blocks = (std::size_t)shape_.d_k / 32, stride = call_.rows.k_stride;
    auto* queries = reinterpret_cast<QueryBlock*>(scratch_ + at_.query_blocks);
    for (std::size_t h = 0; h < group(); ++h) {
      split_query<Bytes>(scratch_ + at_.queries + h * at_.query_stride, n_blocks, queries + h * n_blocks);
    }
    auto* scales = reinterpret_cast<std::uint16_t*>(scratch_ + at_.block_scales);
    copy_scales<Bytes>(stored_k(), stride, n_, n_blocks, scales);
    const auto multiply = [&](const std::byte* keys, std::size_t keys_stride, std::size_t to) HWY_ATTR {
      for_heads<kHeadsAtOnce>([&](std::size_t h, auto heads) HWY_ATTR {
        multiply_sixteen<Bytes, heads()>(keys, keys_stride, n_blocks, scales + to, queries + h * n_blocks,
                                         weights(h) + to);
      });
    };
    std::size_t i = 0;
    for (; i + 16 <= n_; i += 16) {
      bring_far(stored_v() + i * call_.rows.v_stride, 16 * call_.rows.v_stride);
      multiply(stored_k() + i * stride, stride, i);
    }
    if (i == n_) return;
    auto* rest = reinterpret_cast<std::byte*>(scratch_ + at_.run);  // the last keys, and whatever stands behind them
    for (std::size_t x = 0; i + x < n_; ++x) {
      std::memcpy(rest + x * n_blocks * Bytes::kBlock, stored_k() + (i + x) * stride, n_blocks * Bytes::kBlock);
    }
    multiply(rest, n_blocks * Bytes::kBlock, i);
  }

  template <class Bytes>
  HWY_INLINE void add_bytes_of_values() const {
    const std::size_t n_blocks = (std::size_t)shape_.d_v / 32, stride = call_.rows.v_stride;
    auto* split = reinterpret_cast<BlockWeights*>(scratch_ + at_.block_weights);
    auto* scales = reinterpret_cast<std::uint16_t*>(scratch_ + at_.block_scales);
    copy_scales<Bytes>(stored_v(), stride, n_, n_blocks, scales);
    const auto* next = static_cast<const std::byte*>(call_.next);
    for (std::size_t b = 0; b < n_blocks; ++b) {
      const std::byte* block = stored_v() + b * Bytes::kBlock;
      const std::byte* ahead = next ? next + b * n_ * Bytes::kBlock : nullptr;
      for_heads<kHeadsAtOnce>([&](std::size_t h, auto heads) HWY_ATTR {
        add_weighted_block<Bytes, heads()>(block, stride, n_, scales + b * kDecodePiece, weights(h), split,
                                           out(h) + 32 * b, at_.out_stride, h == 0 ? ahead : nullptr);
      });
    }
  }
#endif

  HWY_INLINE void cap(std::size_t h) const {
    const Lanes32 d;
    float* w = weights(h);
    for (std::size_t i = 0; i < n_; i += lanes()) {
      hn::StoreU(soft_cap(hn::LoadU(d, w + i), shape_.softcap), d, w + i);
    }
  }

  // Logits -> exp(logit - largest); largest and sum go to the partial result, the weights also where they are asked
  // for.
  HWY_INLINE void exponentiate(std::size_t h) const {
    const Lanes32 d;
    float* w = weights(h);
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
    if (call_.weights) std::copy_n(w, n_, call_.weights + h * call_.weights_stride + call_.begin);
  }

  HWY_INLINE void add_values() const {
    const Rows& rows = call_.rows;
    const auto d_v = (std::size_t)shape_.d_v;
#if LACAKE_ATTENTION_VNNI
    const auto as_bytes = [&](auto bytes) HWY_ATTR { add_bytes_of_values<decltype(bytes)>(); };
    if (stay_bytes() && with_bytes(shape_.type_v, as_bytes)) return;
#endif
    // Columns that take several passes find the rows of a run in L1.
    const std::size_t each = std::clamp<std::size_t>(8192 / rows.v_stride / 4 * 4, 4, kDecodePiece);
    const auto use = [&](const auto& stored) HWY_ATTR {
      for (std::size_t begin = 0; begin < n_; begin += each) {
        const std::byte* ahead = stream(n_ * rows.k_stride + begin * rows.v_stride + kAheadBytes);
        add(stored, begin, std::min(each, n_ - begin), begin, ahead, rows.v_stride);
      }
    };
    if (d_v % lanes() == 0 && with_rows(shape_.type_v, stored_v(), rows.v_stride, use)) return;
    for (std::size_t begin = 0; begin < n_; begin += kRunRows) {
      const std::size_t n = std::min(kRunRows, n_ - begin);
      load_value_tile(shape_, rows, call_.begin + begin, n, scratch_ + at_.run, at_.out_stride);
      add(converted(at_.out_stride), 0, n, begin, nullptr, 0);
    }
  }

  // Rows first .. first + n - 1, whose weights stand from `from` on.
  template <class Values>
  HWY_INLINE void add(const Values& values, std::size_t first, std::size_t n, std::size_t from, const std::byte* ahead,
                      std::size_t ahead_stride) const {
    const std::size_t d_v = round_up((std::size_t)shape_.d_v, lanes()), stride = at_.out_stride;
    for_heads<kHeadsAtOnce>([&](std::size_t h, auto heads) HWY_ATTR {
      add_weighted_rows<heads()>(values, first, n, d_v, weights(h) + from - first, out(h), stride,
                                 h == 0 ? ahead : nullptr, ahead_stride);
    });
  }

  RowsF32 converted(std::size_t stride) const {
    return {reinterpret_cast<const std::byte*>(scratch_ + at_.run), stride * sizeof(float)};
  }

  static constexpr std::size_t kAnglesAhead = 16;  // rows: their angles lie apart, each is a few lines

  const DecodeCall& call_;
  const Shape& shape_;
  const DecodeLayout at_;
  const std::size_t n_;
  float* const scratch_;
  bool in_registers_ = false;
  bool turns_ = false;
};

}  // namespace

void decode(const DecodeCall& call, float* scratch) { Piece(call, scratch).run(); }

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(decode);

std::size_t decode_scratch(const Shape& shape) { return DecodeLayout(shape).end * sizeof(float); }

void decode(const DecodeCall& call, std::span<std::byte> scratch) {
  assert(call.begin < call.end && call.end - call.begin <= kDecodePiece);
  assert(scratch.size() >= decode_scratch(call.shape));
  HWY_DYNAMIC_DISPATCH(decode)(call, reinterpret_cast<float*>(scratch.data()));
}

void combine(const Shape& shape, const float* partials, std::size_t n_pieces, float* out, const Recorded& recorded) {
  const auto group = (std::size_t)shape.group;
  const auto d_v = (std::size_t)shape.d_v;
  for (std::size_t h = 0; h < group; ++h) {
    const auto partial = [&](std::size_t piece) { return partials + (piece * group + h) * partial_floats(shape); };
    float largest = shape.sinks ? shape.sinks[h] : -std::numeric_limits<float>::infinity();
    for (std::size_t piece = 0; piece < n_pieces; ++piece) largest = std::max(largest, partial(piece)[0]);

    float* to = out + h * d_v;
    std::fill_n(to, d_v, 0.0f);
    float sum = shape.sinks ? std::exp(shape.sinks[h] - largest) : 0.0f;
    for (std::size_t piece = 0; piece < n_pieces; ++piece) {
      const float weight = std::exp(partial(piece)[0] - largest);
      sum += weight * partial(piece)[1];
      for (std::size_t d = 0; d < d_v; ++d) to[d] += weight * partial(piece)[2 + d];
    }
    const float inverse = 1.0f / sum;
    for (std::size_t d = 0; d < d_v; ++d) to[d] *= inverse;

    // Heads are added to the first one's column while all of them are near: whoever averaged them later would read them
    // from memory.
    float *own = recorded.at + h * recorded.stride, *mean = recorded.at;
    const float share = recorded.group_mean ? inverse / (float)group : inverse;
    for (std::size_t begin = 0, piece = 0; recorded.at && begin < recorded.n; begin += recorded.each, ++piece) {
      const std::size_t end = std::min(begin + recorded.each, recorded.n);
      const float factor = std::exp(partial(piece)[0] - largest) * share;
      if (h == 0 || !recorded.group_mean) {
        for (std::size_t i = begin; i < end; ++i) own[i] *= factor;
      } else {
        for (std::size_t i = begin; i < end; ++i) mean[i] += own[i] * factor;
      }
    }
  }
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
