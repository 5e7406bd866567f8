#include <algorithm>
#include <cassert>
#include <cstddef>
#include <optional>

#include "attention/attention.h"
#include "attention/layout.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/prefill.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/prefill_inl.h"
#include "attention/transpose_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

// Where the probabilities of a row go; null: they are not recorded.
float* record_of(const PrefillCall& call, const PrefillPass& pass, std::size_t row) {
  const std::size_t query = pass.query_of(row);
  if (!call.record || row >= pass.n_rows() || query < call.record_from) return nullptr;
  if (query - call.record_from >= call.record_rows) return nullptr;
  return call.record +
         (pass.head_of(row) * call.record_rows + (query - call.record_from)) * (call.past.n + call.fresh.n);
}

constexpr float kOnes[4] = {1, 1, 1, 1};

void record_logits(const PrefillCall& call, const PrefillPass& pass, const Tile& tile, std::size_t block,
                   std::size_t n) {
  if (!call.record) return;
  for (std::size_t lane = 0; lane < kBlockRows; lane += 4) {
    float* rows[4];
    bool any = false;
    for (std::size_t r = 0; r < 4; ++r) {
      rows[r] = record_of(call, pass, block * kBlockRows + lane + r);
      if (rows[r]) rows[r] += tile.entry, any = true;
    }
    if (any) lanes_to_rows(pass.logits() + lane, kBlockRows, kOnes, n, rows);
  }
}

void finish_record(const PrefillCall& call, const PrefillPass& pass, std::size_t block) {
  if (!call.record) return;
  const std::size_t n_entries = call.past.n + call.fresh.n;
  for (std::size_t lane = 0; lane < kBlockRows; ++lane) {
    float* record = record_of(call, pass, block * kBlockRows + lane);
    if (!record) continue;
    const std::size_t n_visible = call.past.n + pass.query_of(block * kBlockRows + lane) + 1;
    normalise<exp2_negative>(record, n_visible, pass.largest(block)[lane], pass.sum(block)[lane]);
    std::fill(record + n_visible, record + n_entries, 0.0f);
    const auto n_hidden = (std::size_t)pass.hidden(block)[lane];
    for (std::size_t i = 0; i < call.past.n && n_hidden > 0; ++i) {
      if ((call.past.token_rank ? (std::size_t)call.past.token_rank[i] : i) < n_hidden) record[i] = 0;
    }
    if (n_hidden > call.past.n) std::fill(record + call.past.n, record + n_hidden, 0.0f);
  }
}

void finish_out(const PrefillCall& call, const PrefillPass& pass, std::size_t block) {
  for (std::size_t lane = 0; lane < pass.rows_in(block); lane += 4) {
    float* rows[4];
    float inverses[4];
    for (std::size_t r = 0; r < 4; ++r) {
      const std::size_t row = block * kBlockRows + lane + r;
      inverses[r] = 1.0f / pass.sum(block)[lane + r];
      rows[r] = row < pass.n_rows() ? call.out + (pass.query_of(row) - call.first) * call.out_stride +
                                          pass.head_of(row) * (std::size_t)call.shape.d_v
                                    : nullptr;
    }
    lanes_to_rows(pass.out(block) + lane, kBlockRows, inverses, (std::size_t)call.shape.d_v, rows);
  }
}

}  // namespace

void prefill(const PrefillCall& call, float* scratch) {
  const PrefillPass pass(call, scratch);
#if LACAKE_ATTENTION_PLANES
  std::optional<cpu::MatrixRegisters> registers;
  if (pass.in_planes()) registers.emplace();
#endif
  for (Tiles tiles(call); tiles.next();) {
    const Tile& tile = tiles.tile();
    if (!pass.any_seen(tile)) continue;
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
  if (!call.softmax) return;
  std::copy_n(pass.largest(0), pass.n_rows(), call.softmax);
  std::copy_n(pass.sum(0), pass.n_rows(), call.softmax + pass.n_rows());
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
