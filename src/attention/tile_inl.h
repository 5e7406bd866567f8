// Stored rows as a tile of f32: converted, mixed back and rotated where keys are stored unrotated, padded with zeros.

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "attention/attention.h"
#include "attention/mix_inl.h"
#include "attention/row.h"
#include "attention/rows_inl.h"
#include "attention/vector_inl.h"

#if defined(LACAKE_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_TILE_INL_H_
#undef LACAKE_ATTENTION_TILE_INL_H_
#else
#define LACAKE_ATTENTION_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

// The whole vectors of row 0 -> out; returns how many numbers they are.
template <class Rows>
HWY_INLINE std::size_t convert_vectors(const Rows& rows, std::size_t d, float* out) {
  std::size_t i = 0;
  for (; i + lanes() <= d; i += lanes()) hn::StoreU(rows.load(0, i), Lanes32(), out + i);
  return i;
}

HWY_INLINE void convert_row(const std::byte* row, std::size_t row_bytes, ggml_type type, std::size_t d, float* out) {
  std::size_t n = 0;
  const auto vectors = [&](const auto& rows) HWY_ATTR { n = convert_vectors(rows, d, out); };
  if (!with_rows(type, row, row_bytes, vectors)) {
    load_row(row, (int)d, type, out);
  } else if (n < d) {  // types in blocks have whole vectors only
    load_row(row + n * ggml_type_size(type), (int)(d - n), type, out + n);
  }
}

// Turns one row in place to where `angles` (a position's cosines, then its sines) says.
HWY_INLINE void rotate_row(const Rope& rope, const float* angles, float* row) {
  const Lanes32 d;
  const std::size_t half = (std::size_t)rope.n_rot / 2;
  std::size_t i = 0;
  for (; i + lanes() <= half; i += lanes()) {
    const Vector cosine = hn::LoadU(d, angles + i);
    const Vector sine = hn::LoadU(d, angles + half + i);
    Vector a, b;
    if (rope.neox) {
      a = hn::LoadU(d, row + i);
      b = hn::LoadU(d, row + half + i);
    } else {
      hn::LoadInterleaved2(d, row + 2 * i, a, b);
    }
    const Vector turned_a = hn::NegMulAdd(b, sine, hn::Mul(a, cosine));
    const Vector turned_b = hn::MulAdd(a, sine, hn::Mul(b, cosine));
    if (rope.neox) {
      hn::StoreU(turned_a, d, row + i);
      hn::StoreU(turned_b, d, row + half + i);
    } else {
      hn::StoreInterleaved2(turned_a, turned_b, d, row + 2 * i);
    }
  }
  for (; i < half; ++i) {
    const Rope::Pair pair = rope.pair(i);
    float &a = row[pair.a], &b = row[pair.b];
    const float turned = a * angles[i] - b * angles[half + i];
    b = a * angles[half + i] + b * angles[i];
    a = turned;
  }
}

// Rows begin .. begin + n - 1 -> tile [tile_stride, n rounded up to 4] f32. Columns from d on and rows from n on are 0.
//   form              of keys
//   rope, rope_index  null rope_index: no rotation
HWY_INLINE void load_tile(const void* rows, std::size_t row_bytes, ggml_type type, int d, std::size_t begin,
                          std::size_t n, const KeyForm& form, const Rope& rope, const std::int32_t* rope_index,
                          float* tile, std::size_t tile_stride) {
  const auto* from = static_cast<const std::byte*>(rows) + begin * row_bytes;
  const bool mixed = is_mixed(type), formed = form.changes(type);
  for (std::size_t i = 0; i < n; ++i, from += row_bytes) {
    float* to = tile + i * tile_stride;
    convert_row(from, row_bytes, type, (std::size_t)d, to);
    if (rope_index) {
      if (mixed) mix_rows(to, (std::size_t)d, 1);
      if (formed) restore_form(form, type, to, (std::size_t)d);
      rotate_row(rope, rope.table + (std::size_t)rope_index[begin + i] * rope.n_rot, to);
    }
    std::fill(to + d, to + tile_stride, 0.0f);
  }
  std::fill(tile + n * tile_stride, tile + (n + 3) / 4 * 4 * tile_stride, 0.0f);
}

HWY_INLINE void load_key_tile(const Shape& shape, const Rows& rows, std::size_t begin, std::size_t n, float* tile,
                              std::size_t tile_stride) {
  load_tile(rows.k, rows.k_stride, shape.type_k, shape.d_k, begin, n, shape.key_form, shape.rope, rows.rope_index, tile,
            tile_stride);
}

HWY_INLINE void load_value_tile(const Shape& shape, const Rows& rows, std::size_t begin, std::size_t n, float* tile,
                                std::size_t tile_stride) {
  load_tile(rows.v, rows.v_stride, shape.type_v, shape.d_v, begin, n, {}, {}, nullptr, tile, tile_stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_TILE_INL_H_
