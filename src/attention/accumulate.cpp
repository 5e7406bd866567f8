// What a key gets from all queries together: its probabilities summed, or the largest of them. A probability is known
// when the row's last key has been seen, so K is multiplied again; here *keys* stand in the lanes, so that what a key
// gets is one lane's and needs no transposing.

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "attention/layout.h"
#include "attention/measure.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/accumulate.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/int16_dot_inl.h"
#include "attention/product_inl.h"
#include "attention/rows_inl.h"
#include "attention/tile_inl.h"
#include "attention/transpose_inl.h"
#include "attention/vector_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

enum class Gets {
  kSum,   // of probabilities
  kPeak,  // the largest of logit - norm: no exponential is needed to find it
};

//   [rows of queries] x d [ keys ]  = rows [ logits ] -> exp -> one row [ sums of p ] for each head
template <Gets kGets>
class Accumulation {
 public:
  Accumulation(const PrefillCall& call, const Tile& keys, float* scratch)
      : call_(call), shape_(call.shape), keys_(keys), at_(call.shape), scratch_(scratch) {}

  HWY_INLINE void load_keys() const {
    static constexpr float kOnes[4] = {1, 1, 1, 1};
    const auto d_k = (std::size_t)shape_.d_k;
    for (std::size_t i = 0; i < n_blocks() * kBlockRows; i += 4) {
      float* rows = scratch_ + at_.queries;  // not in use yet
      std::fill_n(rows, 4 * at_.query_stride, 0.0f);
      if (i < keys_.n) {
        load_key_tile(shape_, *keys_.rows, keys_.begin + i, std::min<std::size_t>(4, keys_.n - i), rows,
                      at_.query_stride);
      }
      const float* four[4] = {rows, rows + at_.query_stride, rows + 2 * at_.query_stride, rows + 3 * at_.query_stride};
      rows_to_lanes(four, kOnes, d_k, block(i / kBlockRows) + i % kBlockRows, kBlockRows);
    }
    for (std::size_t i = 0; i < n_blocks() * kBlockRows; ++i) {
      const std::int32_t* order = keys_.rows->token_rank;
      const std::size_t own = order && i < keys_.n ? (std::size_t)order[keys_.begin + i] : keys_.entry + i;
      index()[i] = i < keys_.n ? (std::int32_t)own : std::numeric_limits<std::int32_t>::max();
    }
    if (!in_pairs()) return;
    for (std::size_t i = 0; i < n_blocks() * kBlockRows; i += lanes()) {
      float* columns = block(i / kBlockRows) + i % kBlockRows;
      hn::StoreU(pair_columns(columns, d_k, kBlockRows), Lanes32(), scratch_ + at_.key_scale + i);
    }
  }

  // Rows first .. first + kQueryRows - 1 of the call; those beyond its last see nothing.
  //   of_rows  kSum: PrefillCall::softmax; kPeak: the norm of each
  HWY_INLINE void load_queries(std::size_t first, const float* of_rows) const {
    const auto d_k = (std::size_t)shape_.d_k, group = (std::size_t)shape_.group;
    const std::size_t n_rows = call_.n_q * group;
    for (std::size_t r = 0; r < kQueryRows; ++r) {
      float* to = scratch_ + at_.queries + r * at_.query_stride;
      std::fill_n(to, at_.query_stride, 0.0f);
      Row& row = row_at(r);
      row = {};
      if (first + r >= n_rows) continue;
      const std::size_t query = (first + r) / group, head = (first + r) % group;
      const float* q = call_.q + query * call_.q_stride + head * d_k;
      const float scale = shape_.scale * kLog2E;
      for (std::size_t i = 0; i < d_k; ++i) to[i] = q[i] * scale;
      if (in_pairs()) row.scale = pair_row(to, at_.query_stride);
      row.sees = sight_of(call_, call_.first + query);
      row.largest = of_rows[first + r];
      if constexpr (kGets == Gets::kSum) row.inverse = 1.0f / of_rows[n_rows + first + r];
      row.sums = sums() + head * at_.n_keys;
    }
    // What sees nothing gives nothing to some head.
    for (std::size_t r = 0; r < kQueryRows; ++r) {
      if (!row_at(r).sums) row_at(r).sums = sums();
    }
  }

  HWY_INLINE void add_block(std::size_t b) const {
    const std::int32_t* order = keys_.rows->token_rank;
    const std::int32_t seen = row_at(kQueryRows - 1).sees.visible;  // rows are in query order
    if (seen > 0 && !order && keys_.entry + b * kBlockRows >= (std::size_t)seen) return;
    const std::size_t d_k = (std::size_t)shape_.d_k;
    const Lanes32 d;
    for (std::size_t x = 0; x < kBlockRows; x += 2 * lanes()) {
      const std::size_t at = b * kBlockRows + x;
      if (in_pairs()) {
        const RowsOfPairs keys{reinterpret_cast<const std::int32_t*>(block(b)), kBlockRows};
        const Scalars<std::int32_t> q{reinterpret_cast<const std::int32_t*>(scratch_ + at_.queries), at_.query_stride,
                                      1};
        const Vector scale_x = hn::LoadU(d, scratch_ + at_.key_scale + at);
        const Vector scale_y = hn::LoadU(d, scratch_ + at_.key_scale + at + lanes());
        const auto add = [&](std::size_t r, Pairs& vx, Pairs& vy) LACAKE_IN_REGISTERS {
          const Vector scale = hn::Set(d, row_at(r).scale);
          add_row(row_at(r), at, hn::Mul(hn::ConvertTo(d, vx), hn::Mul(scale, scale_x)));
          add_row(row_at(r), at + lanes(), hn::Mul(hn::ConvertTo(d, vy), hn::Mul(scale, scale_y)));
        };
        product_rows(q, keys, x, (d_k + 1) / 2, kQueryRows, FromZero(), add);
      } else {
        const RowsF32 keys{reinterpret_cast<const std::byte*>(block(b)), kBlockRows * sizeof(float)};
        const Scalars<float> q{scratch_ + at_.queries, at_.query_stride, 1};
        const auto add = [&](std::size_t r, Vector& vx, Vector& vy) LACAKE_IN_REGISTERS {
          add_row(row_at(r), at, vx);
          add_row(row_at(r), at + lanes(), vy);
        };
        product_rows(q, keys, x, d_k, kQueryRows, FromZero(), add);
      }
    }
  }

  std::size_t n_blocks() const { return (keys_.n + kBlockRows - 1) / kBlockRows; }
  // [n_keys, group]: a copy of the caller's, so that no lane beyond its keys is written.
  float* sums() const { return scratch_ + at_.sums; }
  std::size_t stride() const { return at_.n_keys; }

 private:
  static constexpr std::size_t kQueryRows = AccumulateLayout::kQueryRows;
  using Row = AccumulateLayout::Row;

  bool in_pairs() const { return call_.arithmetic == Arithmetic::kInt16; }
  float* block(std::size_t b) const { return scratch_ + at_.keys + b * (std::size_t)shape_.d_k * kBlockRows; }
  std::int32_t* index() const { return reinterpret_cast<std::int32_t*>(scratch_ + at_.index); }
  Row& row_at(std::size_t r) const { return reinterpret_cast<Row*>(scratch_ + at_.rows)[r]; }

  // One query's logits of a vector of keys -> what they give to its head.
  HWY_INLINE void add_row(const Row& row, std::size_t at, Vector logits) const {
    const Lanes32 d;
    const LanesOfPairs di;
    if (shape_.softcap > 0) logits = soft_cap(logits, shape_.softcap * kLog2E);
    const Vector off = hn::Sub(logits, hn::Set(d, row.largest));
    const auto own = hn::LoadU(di, index() + at);
    const auto see = hn::RebindMask(
        d, hn::AndNot(hn::Gt(hn::Set(di, row.sees.hidden), own), hn::Gt(hn::Set(di, row.sees.visible), own)));
    const Vector before = hn::LoadU(d, row.sums + at);
    if constexpr (kGets == Gets::kSum) {
      const Vector p = hn::Mul(exp2_negative(off), hn::Set(d, row.inverse));
      hn::StoreU(hn::Add(before, hn::IfThenElseZero(see, p)), d, row.sums + at);
    } else {
      hn::StoreU(hn::IfThenElse(see, hn::Max(before, off), before), d, row.sums + at);
    }
  }

  const PrefillCall& call_;
  const Shape& shape_;
  const Tile& keys_;
  const AccumulateLayout at_;
  float* const scratch_;
};

template <Gets kGets>
HWY_INLINE void accumulate(const PrefillCall& call, const Tile& keys, const float* of_rows, float* all,
                           float* scratch) {
  const Accumulation<kGets> pass(call, keys, scratch);
  const std::size_t group = (std::size_t)call.shape.group, n_entries = call.past.n + call.fresh.n;
  pass.load_keys();
  for (std::size_t h = 0; h < group; ++h) {
    std::copy_n(all + h * n_entries + keys.entry, keys.n, pass.sums() + h * pass.stride());
  }
  for (std::size_t row = 0; row < call.n_q * group; row += AccumulateLayout::kQueryRows) {
    pass.load_queries(row, of_rows);
    for (std::size_t b = 0; b < pass.n_blocks(); ++b) pass.add_block(b);
  }
  for (std::size_t h = 0; h < group; ++h) {
    std::copy_n(pass.sums() + h * pass.stride(), keys.n, all + h * n_entries + keys.entry);
  }
}

}  // namespace

void accumulate_probabilities(const PrefillCall& call, const Tile& keys, const float* softmax, float* sums,
                              float* scratch) {
  accumulate<Gets::kSum>(call, keys, softmax, sums, scratch);
}

void raise_peaks(const PrefillCall& call, const Tile& keys, const float* norms, float* peaks, float* scratch) {
  accumulate<Gets::kPeak>(call, keys, norms, peaks, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(accumulate_probabilities);
HWY_EXPORT(raise_peaks);

std::size_t accumulated_keys(const Shape& shape) { return AccumulateLayout(shape).n_keys; }
std::size_t accumulate_scratch(const Shape& shape) { return AccumulateLayout(shape).end * sizeof(float); }

void accumulate_probabilities(const PrefillCall& call, const Tile& keys, const float* softmax, float* sums,
                              std::span<std::byte> scratch) {
  assert(keys.n <= accumulated_keys(call.shape));
  assert(scratch.size() >= accumulate_scratch(call.shape));
  if (call.n_q == 0 || keys.n == 0) return;
  HWY_DYNAMIC_DISPATCH(accumulate_probabilities)(call, keys, softmax, sums, reinterpret_cast<float*>(scratch.data()));
}

void raise_peaks(const PrefillCall& call, const Tile& keys, const float* norms, float* peaks,
                 std::span<std::byte> scratch) {
  assert(keys.n <= accumulated_keys(call.shape));
  assert(scratch.size() >= accumulate_scratch(call.shape));
  if (call.n_q == 0 || keys.n == 0) return;
  HWY_DYNAMIC_DISPATCH(raise_peaks)(call, keys, norms, peaks, reinterpret_cast<float*>(scratch.data()));
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
