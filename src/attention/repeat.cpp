// The norms of a repeat's queries: prefill's first half, over the keys that count, without values.

#include <cassert>
#include <cmath>
#include <cstddef>
#include <optional>

#include "attention/layout.h"
#include "attention/measure.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/repeat.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/prefill_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

// REQUIRES: call.shape.d_v == 0. Keys are cut at multiples of kTileKeys from where a run of them begins, the same for
// every query.
void repeat_norms(const PrefillCall& call, const Repeat& repeat, float* norms, float* scratch) {
  const PrefillPass pass(call, scratch);
#if LACAKE_ATTENTION_PLANES
  std::optional<cpu::MatrixRegisters> registers;
  if (pass.in_planes()) registers.emplace();
#endif
  const auto see = [&](const Rows& rows, std::size_t begin, std::size_t end, std::size_t entries_before) {
    for (Tile tile{.rows = &rows, .begin = begin}; tile.begin < end; tile.begin += tile.n) {
      tile.n = std::min(kTileKeys, end - tile.begin);
      tile.entry = entries_before + tile.begin;
      if (!pass.any_seen(tile)) continue;
      pass.load_keys(tile);
      pass.load_values(tile);
      for (std::size_t block = 0; block < pass.n_blocks(); ++block) {
        const std::size_t n = pass.keys_seen(tile, block);
        if (n == 0) continue;
        pass.multiply_keys(block, n);
        pass.mask(tile, block, n);
        pass.exponentiate(block, n);
      }
    }
  };
  for (const std::uint32_t slot : repeat.past_sinks) see(call.past, slot, slot + 1, 0);
  see(call.fresh, 0, repeat.n_fresh_sinks, call.past.n);
  see(call.fresh, repeat.first, repeat.last, call.past.n);
  see(call.fresh, repeat.own, call.first + call.n_q, call.past.n);
  for (std::size_t row = 0; row < pass.n_rows(); ++row) {
    norms[row] = pass.largest(0)[row] + std::log2(pass.sum(0)[row]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(repeat_norms);

void repeat_norms(const PrefillCall& call, const Repeat& repeat, float* norms, std::span<std::byte> scratch) {
  assert(call.window == 0 && call.first >= repeat.own && repeat.n_fresh_sinks <= repeat.first);
  if (call.n_q == 0) return;
  PrefillCall keys_only = call;
  keys_only.shape.d_v = 0;
  assert(scratch.size() >= prefill_scratch(keys_only.shape, call.n_q));
  HWY_DYNAMIC_DISPATCH(repeat_norms)(keys_only, repeat, norms, reinterpret_cast<float*>(scratch.data()));
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
