// One pass of many queries over their keys.

#include <algorithm>
#include <cstddef>
#include <limits>

#include "attention/amx_dot_inl.h"
#include "attention/attention.h"
#include "attention/int16_dot_inl.h"
#include "attention/layout.h"
#include "attention/product_inl.h"
#include "attention/rows_inl.h"
#include "attention/tile_inl.h"
#include "attention/transpose_inl.h"
#include "attention/vector_inl.h"
#include "cpu/target.h"

#if defined(LACAKE_ATTENTION_PREFILL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_PREFILL_INL_H_
#undef LACAKE_ATTENTION_PREFILL_INL_H_
#else
#define LACAKE_ATTENTION_PREFILL_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

// Queries are the lanes: a block of kBlockRows rows against one tile of keys at a time, logits [rows, keys]. Softmax
// then needs no sums across lanes, a row's arithmetic is its lane's alone, and neither K nor V has to be transposed.
//
//              rows ->                      rows ->
//   keys  [ tile of K ] x  d [ queries ]  = keys [ logits ] -> exp -> keys [ p ]
//   dims  [ tile of V, transposed by stride ] x keys [ p ]  = dims [ out ]
class PrefillPass {
 public:
  PrefillPass(const PrefillCall& call, float* scratch)
      : call_(call),
        shape_(call.shape),
        at_(shape_, call.n_q),
        scratch_(scratch),
        in_planes_(LACAKE_ATTENTION_PLANES && in_pairs() && cpu::uses_matrix_unit()) {
    std::fill_n(out(0), at_.n_blocks * at_.out_dims * kBlockRows, 0.0f);
    for (std::size_t row = 0; row < at_.n_blocks * kBlockRows; row += 4) {
      const float* rows[4];
      float scales[4];
      for (std::size_t r = 0; r < 4; ++r) {
        // Rows that only fill a block repeat the last one's keys with a query of zeros; nobody reads them.
        const std::size_t used = std::min(row + r, n_rows() - 1);
        const Sight sees = sight_of(call, query_of(used));
        visible(0)[row + r] = sees.visible;
        hidden(0)[row + r] = sees.hidden;
        // A sink is as if an entry without a value had been seen first.
        largest(0)[row + r] =
            shape_.sinks ? shape_.sinks[head_of(used)] * kLog2E : std::numeric_limits<float>::lowest();
        sum(0)[row + r] = shape_.sinks ? 1.0f : 0.0f;
        rows[r] = call.q + (query_of(used) - call.first) * call.q_stride + head_of(used) * (std::size_t)shape_.d_k;
        // Powers of 2 instead of e: the exponential then has nothing to multiply by, and no rounding of its own.
        scales[r] = row + r < n_rows() ? shape_.scale * kLog2E : 0.0f;
      }
      rows_to_lanes(rows, scales, (std::size_t)shape_.d_k, queries(row / kBlockRows) + row % kBlockRows, kBlockRows);
    }
    if (!in_pairs()) return;
    for (std::size_t row = 0; row < at_.n_blocks * kBlockRows; row += lanes()) {
      float* columns = queries(row / kBlockRows) + row % kBlockRows;
      hn::StoreU(pair_columns(columns, (std::size_t)shape_.d_k, kBlockRows), Lanes32(), query_scale(0) + row);
#if LACAKE_ATTENTION_PLANES
      if (!in_planes_) continue;
      columns_to_planes(reinterpret_cast<const std::int32_t*>(columns), ((std::size_t)shape_.d_k + 1) / 2, kBlockRows,
                        query_planes(row / lanes()));
#endif
    }
  }

  bool in_planes() const { return in_planes_; }
  std::size_t n_blocks() const { return at_.n_blocks; }
  std::size_t n_rows() const { return call_.n_q * (std::size_t)shape_.group; }
  std::size_t rows_in(std::size_t block) const { return std::min(kBlockRows, n_rows() - block * kBlockRows); }
  std::size_t query_of(std::size_t row) const { return call_.first + row / (std::size_t)shape_.group; }
  std::size_t head_of(std::size_t row) const { return row % (std::size_t)shape_.group; }

  float* largest(std::size_t block) const { return scratch_ + at_.largest + block * kBlockRows; }
  float* sum(std::size_t block) const { return scratch_ + at_.sum + block * kBlockRows; }
  float* out(std::size_t block) const { return scratch_ + at_.out + block * at_.out_dims * kBlockRows; }
  std::int32_t* visible(std::size_t block) const {
    return reinterpret_cast<std::int32_t*>(scratch_ + at_.visible) + block * kBlockRows;
  }
  std::int32_t* hidden(std::size_t block) const {
    return reinterpret_cast<std::int32_t*>(scratch_ + at_.hidden) + block * kBlockRows;
  }
  // [kBlockRows, kTileKeys]
  float* logits() const { return scratch_ + at_.block; }

  HWY_INLINE void load_keys(const Tile& tile) const {
    float* keys = scratch_ + at_.keys;
    load_key_tile(shape_, *tile.rows, tile.begin, tile.n, keys, at_.key_stride);
    if (!in_pairs()) return;
    for (std::size_t key = 0; key < round_up(tile.n, 4); ++key) {
      float* row = keys + key * at_.key_stride;
      scratch_[at_.key_scale + key] = pair_row(row, at_.key_stride);
#if LACAKE_ATTENTION_PLANES
      if (!in_planes_) continue;
      row_to_planes(reinterpret_cast<const std::uint16_t*>(row), at_.key_stride, key % 16, key_planes(key / 16));
#endif
    }
  }
  HWY_INLINE void load_values(const Tile& tile) const {
    float* values = scratch_ + at_.values;
    load_value_tile(shape_, *tile.rows, tile.begin, tile.n, values, at_.value_stride);
    if (!in_pairs()) return;
    for (std::size_t key = 0; key < tile.n; key += 2) {
      float* first = values + key * at_.value_stride;
      pair_two_rows(first, first + at_.value_stride, at_.value_stride, value_scale() + key);
    }
#if LACAKE_ATTENTION_PLANES
    for (std::size_t dim = 0; in_planes_ && dim < at_.value_stride; dim += 16) {
      columns_to_rows_of_planes(reinterpret_cast<const std::int32_t*>(values) + dim, (tile.n + 1) / 2,
                                2 * at_.value_stride, value_planes(dim / 16));
    }
#endif
  }

  // Keys of the tile, from its first, that any row of the block may see. Rows are in query order, so the last one sees
  // the newest keys and the first one the oldest.
  std::size_t keys_seen(const Tile& tile, std::size_t block) const {
    const auto most = (std::size_t)visible(block)[kBlockRows - 1];
    const bool past = tile.rows == &call_.past;
    const std::size_t newest = past ? call_.past.n : tile.entry + tile.n;
    if (most <= tile.entry || newest <= (std::size_t)hidden(block)[0]) return 0;
    return std::min(tile.n, most - tile.entry);
  }
  bool any_seen(const Tile& tile) const {
    for (std::size_t block = 0; block < n_blocks(); ++block) {
      if (keys_seen(tile, block) > 0) return true;
    }
    return false;
  }

  // logits() = the products of the block with the first n keys, to the base 2, masked or not.
  HWY_INLINE void multiply_keys(std::size_t block, std::size_t n) const {
    if (in_pairs()) {
      multiply_keys_in_pairs(block, n);
    } else {
      const RowsF32 b{reinterpret_cast<const std::byte*>(queries(block)), kBlockRows * sizeof(float)};
      const Scalars<float> a{scratch_ + at_.keys, at_.key_stride, 1};
      for (std::size_t x = 0; x < kBlockRows; x += 2 * lanes()) {
        const auto store = [&](std::size_t key, Vector& vx, Vector& vy) LACAKE_IN_REGISTERS {
          hn::StoreU(vx, Lanes32(), logits() + key * kBlockRows + x);
          hn::StoreU(vy, Lanes32(), logits() + key * kBlockRows + x + lanes());
        };
        product_rows(a, b, x, (std::size_t)shape_.d_k, round_up(n, 4), FromZero(), store);
      }
    }
    if (shape_.softcap <= 0) return;
    const Lanes32 d;
    for (std::size_t i = 0; i < n * kBlockRows; i += lanes()) {
      hn::StoreU(soft_cap(hn::LoadU(d, logits() + i), shape_.softcap * kLog2E), d, logits() + i);
    }
  }

  // logits(): masked ones become -inf, so that neither the largest nor any sum knows of them.
  HWY_INLINE void mask(const Tile& tile, std::size_t block, std::size_t n) const {
    const std::int32_t* order = tile.rows->token_rank;
    const bool oldest_seen = hidden(block)[kBlockRows - 1] <= (order ? 0 : (std::int32_t)tile.entry);
    if (tile.entry + n <= (std::size_t)visible(block)[0] && oldest_seen) return;
    const Lanes32 d;
    const hn::RebindToSigned<Lanes32> di;
    const Vector masked = hn::Set(d, -std::numeric_limits<float>::infinity());
    for (std::size_t x = 0; x < kBlockRows; x += lanes()) {
      const auto end = hn::LoadU(di, visible(block) + x);
      const auto begin = hn::LoadU(di, hidden(block) + x);
      for (std::size_t key = 0; key < n; ++key) {
        float* logit = logits() + key * kBlockRows + x;
        const auto at = hn::Set(di, order ? order[tile.begin + key] : (std::int32_t)(tile.entry + key));
        const auto see = hn::RebindMask(d, hn::AndNot(hn::Gt(begin, at), hn::Gt(end, at)));
        hn::StoreU(hn::IfThenElse(see, hn::LoadU(d, logit), masked), d, logit);
      }
    }
  }

  // logits() -> 2^(logit - the row's largest so far), and largest, sum and out brought to that (online softmax). A tile
  // that a row doesn't see changes nothing of the row: 2^0 is exactly 1. In pairs, weights of the tile's values.
  HWY_INLINE void exponentiate(std::size_t block, std::size_t n) const {
    for (std::size_t x = 0; x < kBlockRows; x += 2 * lanes()) {
      if (in_pairs()) {
        exponentiate_in_pairs(block, x, n);
      } else {
        exponentiate_in_floats(block, x, n);
      }
    }
  }

  // out += the probabilities in logits() times the tile's values.
  HWY_INLINE void add_values(std::size_t block, std::size_t n) const {
    if (in_pairs()) {
      add_values_in_pairs(block, n);
      return;
    }
    const RowsF32 b{reinterpret_cast<const std::byte*>(logits()), kBlockRows * sizeof(float)};
    const Scalars<float> a{scratch_ + at_.values, 1, at_.value_stride};
    for (std::size_t x = 0; x < kBlockRows; x += 2 * lanes()) {
      const auto load = [&](std::size_t dim, Vector& vx, Vector& vy) LACAKE_IN_REGISTERS {
        vx = hn::LoadU(Lanes32(), out(block) + dim * kBlockRows + x);
        vy = hn::LoadU(Lanes32(), out(block) + dim * kBlockRows + x + lanes());
      };
      const auto store = [&](std::size_t dim, Vector& vx, Vector& vy) LACAKE_IN_REGISTERS {
        hn::StoreU(vx, Lanes32(), out(block) + dim * kBlockRows + x);
        hn::StoreU(vy, Lanes32(), out(block) + dim * kBlockRows + x + lanes());
      };
      product_rows(a, b, x, n, at_.out_dims, load, store);
    }
  }

 private:
  bool in_pairs() const { return call_.arithmetic == Arithmetic::kInt16; }
  float* query_scale(std::size_t block) const { return scratch_ + at_.query_scale + block * kBlockRows; }
  float* value_scale() const { return scratch_ + at_.value_scale; }

#if LACAKE_ATTENTION_PLANES
  std::byte* planes(std::size_t at, std::size_t n_planes) const {
    return reinterpret_cast<std::byte*>(scratch_ + at + n_planes * PrefillLayout::kPlanes);
  }
  // Of 16 rows, 16 keys, 16 dimensions, 16 rows.
  std::byte* query_planes(std::size_t half) const { return planes(at_.query_planes, half * at_.key_steps); }
  std::byte* key_planes(std::size_t keys) const { return planes(at_.key_planes, keys * at_.key_steps); }
  std::byte* value_planes(std::size_t dims) const { return planes(at_.value_planes, dims * kTileSteps); }
  std::byte* weight_planes(std::size_t half) const { return planes(at_.weight_planes, half * kTileSteps); }
  std::int32_t* plane_sums() const { return reinterpret_cast<std::int32_t*>(scratch_ + at_.plane_sums); }
  static constexpr std::size_t kTileSteps = kTileKeys / PrefillLayout::kStep;

  HWY_INLINE void multiply_keys_in_planes(std::size_t block, std::size_t n) const {
    const Lanes32 d;
    const Vector scale_x = hn::LoadU(d, query_scale(block)), scale_y = hn::LoadU(d, query_scale(block) + 16);
    const auto store = [&](std::size_t key, const std::int32_t* sums, std::size_t row) LACAKE_IN_REGISTERS {
      const Vector of_key = hn::Set(d, scratch_[at_.key_scale + key]);
      float* to = logits() + key * kBlockRows;
      hn::StoreU(hn::Mul(hn::ConvertTo(d, sum_of(sums, 0, row)), hn::Mul(scale_x, of_key)), d, to);
      hn::StoreU(hn::Mul(hn::ConvertTo(d, sum_of(sums, 1, row)), hn::Mul(scale_y, of_key)), d, to + 16);
    };
    multiply_all_planes(n, key_planes(0), at_.key_steps, query_planes(2 * block), query_planes(2 * block + 1),
                        at_.key_steps, plane_sums(), store);
  }

  HWY_INLINE void add_values_in_planes(std::size_t block, std::size_t n) const {
    const Lanes32 d;
    const float *shrink = scratch_ + at_.shrink, *grow = scratch_ + at_.grow;
    const Vector shrink_x = hn::LoadU(d, shrink), shrink_y = hn::LoadU(d, shrink + 16);
    const Vector grow_x = hn::LoadU(d, grow), grow_y = hn::LoadU(d, grow + 16);
    const auto add = [&](std::size_t dim, const std::int32_t* sums, std::size_t row) LACAKE_IN_REGISTERS {
      float *to_x = out(block) + dim * kBlockRows, *to_y = to_x + 16;
      const Vector sum_x = hn::Mul(hn::ConvertTo(d, sum_of(sums, 0, row)), grow_x);
      const Vector sum_y = hn::Mul(hn::ConvertTo(d, sum_of(sums, 1, row)), grow_y);
      hn::StoreU(hn::MulAdd(hn::LoadU(d, to_x), shrink_x, sum_x), d, to_x);
      hn::StoreU(hn::MulAdd(hn::LoadU(d, to_y), shrink_y, sum_y), d, to_y);
    };
    multiply_all_planes(at_.out_dims, value_planes(0), kTileSteps, weight_planes(0), weight_planes(1),
                        (n + PrefillLayout::kStep - 1) / PrefillLayout::kStep, plane_sums(), add);
  }
#endif

  HWY_INLINE void multiply_keys_in_pairs(std::size_t block, std::size_t n) const {
#if LACAKE_ATTENTION_PLANES
    if (in_planes_) return multiply_keys_in_planes(block, n);
#endif
    const Lanes32 d;
    const RowsOfPairs b{reinterpret_cast<const std::int32_t*>(queries(block)), kBlockRows};
    const Scalars<std::int32_t> a{reinterpret_cast<const std::int32_t*>(scratch_ + at_.keys), at_.key_stride, 1};
    for (std::size_t x = 0; x < kBlockRows; x += 2 * lanes()) {
      const Vector scale_x = hn::LoadU(d, query_scale(block) + x);
      const Vector scale_y = hn::LoadU(d, query_scale(block) + x + lanes());
      const auto store = [&](std::size_t key, Pairs& vx, Pairs& vy) LACAKE_IN_REGISTERS {
        const Vector of_key = hn::Set(d, scratch_[at_.key_scale + key]);
        float* to = logits() + key * kBlockRows + x;
        hn::StoreU(hn::Mul(hn::ConvertTo(d, vx), hn::Mul(scale_x, of_key)), d, to);
        hn::StoreU(hn::Mul(hn::ConvertTo(d, vy), hn::Mul(scale_y, of_key)), d, to + lanes());
      };
      product_rows(a, b, x, ((std::size_t)shape_.d_k + 1) / 2, round_up(n, 4), FromZero(), store);
    }
  }

  // The largest of the first n keys' logits in two vectors of rows from x on, and of what is given: two at a time, so
  // that one's maxima (and sums, below) needn't wait for the other's.
  HWY_INLINE void find_largest(std::size_t x, std::size_t n, Vector& top_x, Vector& top_y) const {
    const Lanes32 d;
    for (std::size_t key = 0; key < n; ++key) {
      const float* logit = logits() + key * kBlockRows + x;
      top_x = hn::Max(top_x, hn::LoadU(d, logit));
      top_y = hn::Max(top_y, hn::LoadU(d, logit + lanes()));
    }
  }

  // logit -> 2^(logit - top) for the same; their sums into total_x and total_y.
  HWY_INLINE void find_powers(std::size_t x, std::size_t n, Vector top_x, Vector top_y, Vector& total_x,
                              Vector& total_y) const {
    const Lanes32 d;
    total_x = total_y = hn::Zero(d);
    for (std::size_t key = 0; key < n; ++key) {
      float* logit = logits() + key * kBlockRows + x;
      const Vector p_x = exp2_negative(hn::Sub(hn::LoadU(d, logit), top_x));
      const Vector p_y = exp2_negative(hn::Sub(hn::LoadU(d, logit + lanes()), top_y));
      hn::StoreU(p_x, d, logit);
      hn::StoreU(p_y, d, logit + lanes());
      total_x = hn::Add(total_x, p_x);
      total_y = hn::Add(total_y, p_y);
    }
  }

  HWY_INLINE void exponentiate_in_floats(std::size_t block, std::size_t x, std::size_t n) const {
    const Lanes32 d;
    const std::size_t y = x + lanes();
    const Vector before_x = hn::LoadU(d, largest(block) + x), before_y = hn::LoadU(d, largest(block) + y);
    Vector top_x = before_x, top_y = before_y, total_x, total_y;
    find_largest(x, n, top_x, top_y);
    find_powers(x, n, top_x, top_y, total_x, total_y);
    bring_to(block, x, before_x, top_x, total_x);
    bring_to(block, y, before_y, top_y, total_y);
  }

  // A key's weight is its power times the scale of its values; what makes the best use of 16 bits differs from row to
  // row, so that a tile of small probabilities loses nothing beside a large one elsewhere.
  HWY_INLINE void exponentiate_in_pairs(std::size_t block, std::size_t x, std::size_t n) const {
    const Lanes32 d;
    Vector top_x = hn::Set(d, std::numeric_limits<float>::lowest()), top_y = top_x;
    find_largest(x, n, top_x, top_y);
    Vector total_x = hn::Zero(d), total_y = total_x, weight_x = total_x, weight_y = total_x;
    for (std::size_t key = 0; key < n; ++key) {
      float* logit = logits() + key * kBlockRows + x;
      const Vector scale = hn::Set(d, value_scale()[key]);
      const Vector p_x = exp2_negative_16(hn::Sub(hn::LoadU(d, logit), top_x)), w_x = hn::Mul(p_x, scale);
      const Vector p_y = exp2_negative_16(hn::Sub(hn::LoadU(d, logit + lanes()), top_y)), w_y = hn::Mul(p_y, scale);
      hn::StoreU(w_x, d, logit);
      hn::StoreU(w_y, d, logit + lanes());
      total_x = hn::Add(total_x, p_x);
      total_y = hn::Add(total_y, p_y);
      weight_x = hn::Add(weight_x, w_x);
      weight_y = hn::Add(weight_y, w_y);
    }
    const Vector scale_x = join_tile(block, x, top_x, total_x, weight_x);
    const Vector scale_y = join_tile(block, x + lanes(), top_y, total_y, weight_y);
    if (n % 2 == 1) {
      hn::StoreU(hn::Zero(d), d, logits() + n * kBlockRows + x);
      hn::StoreU(hn::Zero(d), d, logits() + n * kBlockRows + x + lanes());
    }
    auto* pairs = reinterpret_cast<std::int32_t*>(logits()) + x;
    const auto pair = [](const float* first, Vector scale) LACAKE_IN_REGISTERS {
      return pair_of(rounded(hn::LoadU(Lanes32(), first), scale),
                     rounded(hn::LoadU(Lanes32(), first + kBlockRows), scale));
    };
    for (std::size_t key = 0; key < n; key += 2) {
      const float* weights = logits() + key * kBlockRows + x;
      const Pairs pairs_x = pair(weights, scale_x), pairs_y = pair(weights + lanes(), scale_y);
      hn::StoreU(pairs_x, LanesOfPairs(), pairs + key / 2 * kBlockRows);
      hn::StoreU(pairs_y, LanesOfPairs(), pairs + key / 2 * kBlockRows + lanes());
    }
#if LACAKE_ATTENTION_PLANES
    for (std::size_t half = 0; in_planes_ && half < 2; ++half) {
      columns_to_planes(pairs + half * 16, (n + 1) / 2, kBlockRows, weight_planes(half));
    }
#endif
  }

  // One vector of rows: largest and sum take the tile in, shrink and grow are set. Returns what makes integers of
  // weights that sum up to `weight`.
  HWY_INLINE Vector join_tile(std::size_t block, std::size_t x, Vector tile_top, Vector total, Vector weight) const {
    const Lanes32 d;
    const Vector before = hn::LoadU(d, largest(block) + x), top = hn::Max(before, tile_top);
    const Vector shrink = exp2_negative(hn::Sub(before, top)), joins = exp2_negative(hn::Sub(tile_top, top));
    // A row that sees nothing of the tile has weights of 0, at any finite scale.
    const Vector scale = hn::Min(hn::Set(d, 1e30f), hn::Div(hn::Set(d, kWeights), weight));
    hn::StoreU(top, d, largest(block) + x);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, sum(block) + x), shrink, hn::Mul(total, joins)), d, sum(block) + x);
    hn::StoreU(shrink, d, scratch_ + at_.shrink + x);
    hn::StoreU(hn::Div(joins, scale), d, scratch_ + at_.grow + x);
    return scale;
  }

  HWY_INLINE void add_values_in_pairs(std::size_t block, std::size_t n) const {
#if LACAKE_ATTENTION_PLANES
    if (in_planes_) return add_values_in_planes(block, n);
#endif
    const Lanes32 d;
    const RowsOfPairs b{reinterpret_cast<const std::int32_t*>(logits()), kBlockRows};
    const Scalars<std::int32_t> a{reinterpret_cast<const std::int32_t*>(scratch_ + at_.values), 1,
                                  2 * at_.value_stride};
    for (std::size_t x = 0; x < kBlockRows; x += 2 * lanes()) {
      const float *shrink = scratch_ + at_.shrink + x, *grow = scratch_ + at_.grow + x;
      const Vector shrink_x = hn::LoadU(d, shrink), shrink_y = hn::LoadU(d, shrink + lanes());
      const Vector grow_x = hn::LoadU(d, grow), grow_y = hn::LoadU(d, grow + lanes());
      const auto add = [&](std::size_t dim, Pairs& vx, Pairs& vy) LACAKE_IN_REGISTERS {
        float *to_x = out(block) + dim * kBlockRows + x, *to_y = to_x + lanes();
        const Vector sum_x = hn::Mul(hn::ConvertTo(d, vx), grow_x), sum_y = hn::Mul(hn::ConvertTo(d, vy), grow_y);
        hn::StoreU(hn::MulAdd(hn::LoadU(d, to_x), shrink_x, sum_x), d, to_x);
        hn::StoreU(hn::MulAdd(hn::LoadU(d, to_y), shrink_y, sum_y), d, to_y);
      };
      product_rows(a, b, x, (n + 1) / 2, at_.out_dims, FromZero(), add);
    }
  }

  // One vector of rows: largest, sum and out go from `before` to `top`, and `total` is added.
  HWY_INLINE void bring_to(std::size_t block, std::size_t x, Vector before, Vector top, Vector total) const {
    const Lanes32 d;
    const Vector shrink = exp2_negative(hn::Sub(before, top));
    hn::StoreU(top, d, largest(block) + x);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, sum(block) + x), shrink, total), d, sum(block) + x);
    if (hn::AllTrue(d, hn::Eq(before, top))) return;
    for (std::size_t dim = 0; dim < at_.out_dims; ++dim) {
      float* value = out(block) + dim * kBlockRows + x;
      hn::StoreU(hn::Mul(hn::LoadU(d, value), shrink), d, value);
    }
  }

  float* queries(std::size_t block) const {
    return scratch_ + at_.queries + block * (std::size_t)shape_.d_k * kBlockRows;
  }

  const PrefillCall& call_;
  const Shape& shape_;
  const PrefillLayout at_;
  float* const scratch_;
  const bool in_planes_;
};

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_PREFILL_INL_H_
