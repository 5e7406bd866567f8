#include <cassert>
#include <cstddef>

#include "attention/layout.h"
#include "attention/measure.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/accumulate.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/prefill_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

// logits() -> probabilities, and their sums over queries. One query after the other into the same sum, so that a result
// does not depend on how the queries were divided into calls.
HWY_INLINE void add_probabilities(const PrefillCall& call, const PrefillPass& pass, const Tile& tile, std::size_t block,
                                  std::size_t n, float* sums) {
  const Lanes32 d;
  for (std::size_t x = 0; x < kBlockRows; x += lanes()) {
    const Vector top = hn::LoadU(d, pass.largest(block) + x);
    const Vector inverse = hn::Div(hn::Set(d, 1.0f), hn::LoadU(d, pass.sum(block) + x));
    for (std::size_t key = 0; key < n; ++key) {
      float* logit = pass.logits() + key * kBlockRows + x;
      hn::StoreU(hn::Mul(exp2_negative(hn::Sub(hn::LoadU(d, logit), top)), inverse), d, logit);
    }
  }
  const std::size_t n_entries = call.past.n + call.fresh.n;
  for (std::size_t lane = 0; lane < pass.rows_in(block); ++lane) {
    float* to = sums + pass.head_of(block * kBlockRows + lane) * n_entries + tile.entry;
    for (std::size_t key = 0; key < n; ++key) to[key] += pass.logits()[key * kBlockRows + lane];
  }
}

}  // namespace

void accumulate_probabilities(const PrefillCall& call, float* sums, float* scratch) {
  const PrefillPass pass(call, scratch, /*again*/ true);
  for (Tiles tiles(call); tiles.next();) {
    const Tile& tile = tiles.tile();
    if (!pass.any_seen(tile)) continue;
    pass.load_keys(tile);
    for (std::size_t block = 0; block < pass.n_blocks(); ++block) {
      const std::size_t n = pass.keys_seen(tile, block);
      if (n == 0) continue;
      pass.multiply_keys(block, n);
      pass.mask(tile, block, n);
      add_probabilities(call, pass, tile, block, n, sums);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(accumulate_probabilities);

void accumulate_probabilities(const PrefillCall& call, float* sums, std::span<std::byte> scratch) {
  assert(call.fresh.n >= call.first + call.n_q);
  assert(scratch.size() >= prefill_scratch(call.shape, call.n_q));
  if (call.n_q == 0) return;
  HWY_DYNAMIC_DISPATCH(accumulate_probabilities)(call, sums, reinterpret_cast<float*>(scratch.data()));
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
