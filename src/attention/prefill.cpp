#include <algorithm>
#include <cassert>
#include <cstddef>

#include "attention/attention.h"
#include "attention/layout.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/prefill.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/prefill_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

// Calls use(row, query) for the block's rows that are recorded. `use` holds no vectors.
template <class Use>
void for_each_recorded(const PrefillCall& call, const PrefillPass& pass, std::size_t block, const Use& use) {
  if (!call.record) return;
  for (std::size_t row = block * kBlockRows; row < block * kBlockRows + pass.rows_in(block); ++row) {
    const std::size_t query = pass.query_of(row);
    if (query >= call.record_from && query - call.record_from < call.record_rows) use(row, query);
  }
}

float* record_of(const PrefillCall& call, std::size_t head, std::size_t query) {
  return call.record + (head * call.record_rows + (query - call.record_from)) * (call.past.n + call.fresh.n);
}

void record_logits(const PrefillCall& call, const PrefillPass& pass, const Tile& tile, std::size_t block,
                   std::size_t n) {
  for_each_recorded(call, pass, block, [&](std::size_t row, std::size_t query) {
    float* to = record_of(call, pass.head_of(row), query) + tile.entry;
    const float* from = pass.logits() + row % kBlockRows;
    for (std::size_t key = 0; key < n; ++key) to[key] = from[key * kBlockRows];
  });
}

void finish_record(const PrefillCall& call, const PrefillPass& pass, std::size_t block) {
  const std::size_t n_entries = call.past.n + call.fresh.n;
  for_each_recorded(call, pass, block, [&](std::size_t row, std::size_t query) HWY_ATTR {
    float* record = record_of(call, pass.head_of(row), query);
    const std::size_t n_visible = call.past.n + query + 1;
    const std::size_t lane = row % kBlockRows;
    normalise<exp2_negative>(record, n_visible, pass.largest(block)[lane], pass.sum(block)[lane]);
    std::fill(record + n_visible, record + n_entries, 0.0f);
  });
}

void finish_out(const PrefillCall& call, const PrefillPass& pass, std::size_t block) {
  for (std::size_t lane = 0; lane < pass.rows_in(block); ++lane) {
    const std::size_t row = block * kBlockRows + lane;
    const auto d_v = (std::size_t)call.shape.d_v;
    float* to = call.out + (pass.query_of(row) - call.first) * call.out_stride + pass.head_of(row) * d_v;
    const float inverse = 1.0f / pass.sum(block)[lane];
    for (std::size_t dim = 0; dim < d_v; ++dim) to[dim] = pass.out(block)[dim * kBlockRows + lane] * inverse;
  }
}

}  // namespace

void prefill(const PrefillCall& call, float* scratch) {
  const PrefillPass pass(call, scratch);
  for (Tiles tiles(call); tiles.next();) {
    const Tile& tile = tiles.tile();
    pass.load_keys(tile);
    pass.load_values(tile);
    for (std::size_t block = 0; block < pass.n_blocks(); ++block) {
      const std::size_t n = pass.keys_seen(tile, block);
      if (n == 0) continue;
      pass.multiply_keys(block, n);
      record_logits(call, pass, tile, block, n);
      pass.mask(tile, block, n);
      pass.exponentiate(block, n);
      pass.add_values(block, n);
    }
  }
  for (std::size_t block = 0; block < pass.n_blocks(); ++block) {
    finish_out(call, pass, block);
    finish_record(call, pass, block);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(prefill);

std::size_t prefill_scratch(const Shape& shape, std::size_t n_q) {
  return PrefillLayout(shape, n_q).end * sizeof(float);
}

void prefill(const PrefillCall& call, std::span<std::byte> scratch) {
  assert(call.fresh.n >= call.first + call.n_q);
  assert(scratch.size() >= prefill_scratch(call.shape, call.n_q));
  if (call.n_q == 0) return;
  HWY_DYNAMIC_DISPATCH(prefill)(call, reinterpret_cast<float*>(scratch.data()));
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
