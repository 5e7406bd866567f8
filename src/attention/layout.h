#pragma once

// How prefill and decode cut their work and lay out their scratch. The same for every dispatch target.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/attention.h"

namespace lacake::attention {

inline constexpr std::size_t kMaxLanes = 16;  // of a vector of floats; see vector_inl.h

inline constexpr std::size_t round_up(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Prefill works on a tile of keys at a time, against blocks of query rows (row = query * group + head). For d = 64 a
// tile's K and V are 32 KiB each, a block's queries and sums 8 KiB each, its probabilities 16 KiB: together in L2, and
// what the inner loop reads again and again (the block) in L1.
inline constexpr std::size_t kTileKeys = 128;
inline constexpr std::size_t kBlockRows = 2 * kMaxLanes;

// One tile: rows begin .. begin + n - 1 of `rows`, which are entries entry .. entry + n - 1 of past, then fresh. Cut at
// multiples of kTileKeys from the start of `past` and from the start of `fresh`, so that a query's keys are always cut
// alike, however many queries share the call.
struct Tile {
  const Rows* rows = nullptr;
  std::size_t begin = 0;
  std::size_t n = 0;
  std::size_t entry = 0;
};

// What a query sees, in the order of tokens: the entries from `hidden` on that stand before `visible`.
struct Sight {
  std::int32_t visible = 0;
  std::int32_t hidden = 0;
};
// `query` counts from the segment's start.
inline Sight sight_of(const PrefillCall& call, std::size_t query) {
  const std::size_t visible = call.past.n + query + 1;
  return {(std::int32_t)visible, (std::int32_t)(call.window > 0 && visible > call.window ? visible - call.window : 0)};
}

// All tiles that a call's queries see, in order: `for (Tiles tiles(call); tiles.next();) use(tiles.tile());`
class Tiles {
 public:
  explicit Tiles(const PrefillCall& call) : call_(call) { tile_.rows = &call.past; }

  bool next() {
    tile_.begin += tile_.n;
    if (tile_.rows == &call_.past && tile_.begin == call_.past.n) tile_.rows = &call_.fresh, tile_.begin = 0;
    const bool past = tile_.rows == &call_.past;
    const std::size_t end = past ? call_.past.n : call_.first + call_.n_q;
    tile_.n = std::min(kTileKeys, end - tile_.begin);
    tile_.entry = tile_.begin + (past ? 0 : call_.past.n);
    return tile_.n > 0;
  }

  const Tile& tile() const { return tile_; }

 private:
  const PrefillCall& call_;
  Tile tile_;
};

// Scratch of a prefill, in floats from its start. Rows stand in blocks, transposed: within a block, one vector holds
// the same number of neighbouring rows.
//   queries   [kBlockRows, d_k, n_blocks]        scaled
//   out       [kBlockRows, round4(d_v), n_blocks]
//   largest, sum  [n_blocks * kBlockRows]        of the logits so far, of exp(logit - largest)
//   visible   [n_blocks * kBlockRows] int32      entries up to the row's own, in the order of tokens
//   hidden    [n_blocks * kBlockRows] int32      the oldest of these, which lie before the row's window
//   keys      [key_stride, kTileKeys]            the tile's K
//   values    [value_stride, kTileKeys]          the tile's V
//   block     [kBlockRows, kTileKeys]            logits, then probabilities, of one block and tile
// With Arithmetic::kInt16, queries, keys, values and probabilities turn into pairs where they stand (int16_dot_inl.h),
// and what makes floats of them again lies beside:
//   query_scale  [n_blocks * kBlockRows]
//   key_scale    [kTileKeys]
//   value_scale  [kTileKeys]
//   shrink, grow [kBlockRows]  of a block's `out` and of what the tile adds to it
// On a matrix unit pairs turn into planes (amx_dot_inl.h), of 64 numbers a step and 16 rows or columns each:
//   query_planes   [2 KiB, steps of d_k, 2 halves of a block, n_blocks]
//   key_planes     [2 KiB, steps of d_k, kTileKeys / 16]
//   value_planes   [2 KiB, steps of kTileKeys, ceil(d_v / 16)]
//   weight_planes  [2 KiB, steps of kTileKeys, 2 halves of a block]
//   plane_sums     [6 KiB, 2]
struct PrefillLayout {
  static constexpr std::size_t kStep = 64, kPlanes = 512;  // numbers; floats of two planes
  std::size_t n_blocks, key_stride, value_stride, out_dims;
  std::size_t queries, out, largest, sum, visible, hidden, keys, values, block;
  std::size_t query_scale, key_scale, value_scale, shrink, grow;
  std::size_t key_steps, query_planes, key_planes, value_planes, weight_planes, plane_sums, end;

  PrefillLayout(const Shape& shape, std::size_t n_q) {
    n_blocks = (n_q * (std::size_t)shape.group + kBlockRows - 1) / kBlockRows;
    key_stride = round_up((std::size_t)shape.d_k, kMaxLanes);
    value_stride = round_up((std::size_t)shape.d_v, kMaxLanes);
    out_dims = round_up((std::size_t)shape.d_v, 4);
    std::size_t at = 0;
    const auto place = [&at](std::size_t n) { return (at += n) - n; };
    queries = place(n_blocks * (std::size_t)shape.d_k * kBlockRows);
    out = place(n_blocks * out_dims * kBlockRows);
    largest = place(n_blocks * kBlockRows);
    sum = place(n_blocks * kBlockRows);
    visible = place(n_blocks * kBlockRows);
    hidden = place(n_blocks * kBlockRows);
    keys = place(kTileKeys * key_stride);
    values = place(kTileKeys * value_stride);
    block = place(kTileKeys * kBlockRows);
    query_scale = place(n_blocks * kBlockRows);
    key_scale = place(kTileKeys);
    value_scale = place(kTileKeys);
    shrink = place(kBlockRows);
    grow = place(kBlockRows);
    constexpr std::size_t kTileSteps = kTileKeys / kStep;
    key_steps = round_up((std::size_t)shape.d_k, kStep) / kStep;
    query_planes = place(n_blocks * 2 * key_steps * kPlanes);
    key_planes = place(kTileKeys / 16 * key_steps * kPlanes);
    value_planes = place(value_stride / 16 * kTileSteps * kPlanes);
    weight_planes = place(2 * kTileSteps * kPlanes);
    plane_sums = place(2 * 3 * kPlanes);
    end = at;
  }
};

// Sums of probabilities are taken for a range of keys at a time, in blocks of kBlockRows keys, against a few query
// rows: a range's keys stay in L2, a block and the rows in L1. Scratch, in floats from its start:
//   keys       [kBlockRows, d_k, n_keys / kBlockRows]   pairs where they stand, as above
//   key_scale  [n_keys]
//   index      [n_keys] int32                           the place of each in the order of tokens
//   queries    [query_stride, kQueryRows]               scaled
//   rows       [kQueryRows] Row
//   sums       [n_keys, group]
struct AccumulateLayout {
  static constexpr std::size_t kQueryRows = 32;
  struct Row {
    float scale = 0, largest = 0, inverse = 0;
    Sight sees;
    float* sums = nullptr;
  };
  std::size_t n_keys, query_stride;
  std::size_t keys, key_scale, index, queries, rows, sums, end;

  explicit AccumulateLayout(const Shape& shape) {
    const auto d_k = (std::size_t)shape.d_k;
    n_keys = std::clamp<std::size_t>(round_up((std::size_t{64} << 10) / d_k, kBlockRows), kBlockRows, 1024);
    query_stride = round_up(d_k, kMaxLanes);
    std::size_t at = 0;
    const auto place = [&at](std::size_t n) { return (at += round_up(n, kMaxLanes)) - round_up(n, kMaxLanes); };
    keys = place(d_k * n_keys);
    key_scale = place(n_keys);
    index = place(n_keys);
    queries = place(kQueryRows * query_stride);
    rows = place(kQueryRows * sizeof(Row) / sizeof(float));
    sums = place((std::size_t)shape.group * n_keys);
    end = at;
  }
};

// Decode converts what it can't use as stored in runs of kRunRows rows.
inline constexpr std::size_t kRunRows = 32;

// What rows are multiplied by where they stay bytes (q8_dot_inl.h).
inline constexpr std::size_t kQueryBlockFloats = 34;              // of a query, for each 32 numbers
inline constexpr std::size_t kBlockWeightsFloats = kDecodePiece;  // of a head's weights
inline constexpr std::size_t kHeadsAtOnce = 4;

// Scratch of a decode, in floats from its start.
//   queries  [query_stride, group]     scaled, padded with zeros
//   weights  [kDecodePiece, group]     logits, then exp(logit - largest)
//   out      [out_stride, group]
//   run      [max(query_stride, out_stride), kRunRows]
//   query_blocks   [kQueryBlockFloats, ceil(d_k / 32), group]
//   block_weights  [kBlockWeightsFloats, kHeadsAtOnce]
//   block_scales   [kDecodePiece, ceil(max(d_k, d_v) / 32)] f16
struct DecodeLayout {
  std::size_t query_stride, out_stride;
  std::size_t queries, weights, out, run, query_blocks, block_weights, block_scales, end;

  explicit DecodeLayout(const Shape& shape) {
    const auto group = (std::size_t)shape.group;
    query_stride = round_up((std::size_t)shape.d_k, kMaxLanes);
    out_stride = round_up((std::size_t)shape.d_v, 2 * kMaxLanes);
    queries = 0;
    weights = queries + group * query_stride;
    out = weights + group * kDecodePiece;
    run = out + group * out_stride;
    query_blocks = run + kRunRows * std::max(query_stride, out_stride);
    block_weights = query_blocks + group * (round_up((std::size_t)shape.d_k, 32) / 32) * kQueryBlockFloats;
    block_scales = block_weights + kHeadsAtOnce * kBlockWeightsFloats;
    end = block_scales + round_up((std::size_t)std::max(shape.d_k, shape.d_v), 32) / 32 * (kDecodePiece / 2);
  }
};

}  // namespace lacake::attention
