// What leaves a cache and comes back: copies of it, and rows in the order of entries, for files.

#include <cassert>
#include <vector>

#include "cache/cache.h"

namespace lacake {

CacheCopy Cache::copy(const std::function<bool(int)>& loses) const {
  const CacheShape& shape = arena_.shape();
  CacheCopy copy;
  copy.maps = maps_;
  std::uint64_t bytes = 0;
  for (int l = 0; l < shape.n_layer; ++l) {
    copy.copied.push_back(loses(l));
    for (int h = 0; h < shape.n_head_kv; ++h) {
      const std::size_t lane = shape.lane(l, h);
      copy.capacities.push_back(arena_.capacity(lane));
      copy.live.push_back(arena_.live(lane));
      if (copy.copied.back()) bytes += arena_.live_bytes(lane);
    }
  }
  if (bytes == 0) return copy;
  copy.rows = pool_.allocate(bytes);
  auto* to = (std::byte*)ggml_backend_buffer_get_base(copy.rows.get());
  for (std::size_t lane = 0; lane < shape.n_lanes(); ++lane) {
    if (!copy.copied[lane / (std::size_t)shape.n_head_kv]) continue;
    arena_.copy_out(lane, to);
    to += arena_.live_bytes(lane);
  }
  return copy;
}

void Cache::restore(const CacheCopy& copy) {
  const CacheShape& shape = arena_.shape();
  const auto copied = [&](std::size_t lane) { return copy.copied[lane / (std::size_t)shape.n_head_kv]; };
  for (std::size_t lane = 0; lane < shape.n_lanes(); ++lane) {
    assert(copied(lane) || copy.live[lane] <= arena_.live(lane));
    arena_.set_live(lane, copied(lane) ? 0 : copy.live[lane]);
  }
  arena_.divide(copy.capacities);
  const std::byte* from = copy.rows ? (const std::byte*)ggml_backend_buffer_get_base(copy.rows.get()) : nullptr;
  for (std::size_t lane = 0; lane < shape.n_lanes(); ++lane) {
    if (!copied(lane)) continue;
    arena_.copy_in(lane, copy.live[lane], from);
    from += copy.live[lane] * shape.slot_bytes();
  }
  maps_ = copy.maps;
}

void Cache::copy_rows_out(int layer, int head, bool keys, std::span<std::byte> to) const {
  const std::size_t lane = arena_.shape().lane(layer, head);
  const std::size_t row = keys ? arena_.shape().k_row() : arena_.shape().v_row();
  assert(to.size() == length(layer, head) * row);
  std::vector<RowRun> runs;
  for (const std::uint32_t slot : slots(layer, head)) {
    runs.push_back({to.data(), keys ? arena_.k(lane, slot) : arena_.v(lane, slot), row});
    to = to.subspan(row);
  }
  mover_.move(runs);
}

std::size_t Cache::length(const CacheCopy& copy, int layer, int head) const {
  return copy.live[arena_.shape().lane(layer, head)];
}

std::span<const std::uint32_t> Cache::slots(const CacheCopy& copy, int layer, int head) const {
  return copy.maps[map_index(layer, head)].slot;
}

std::span<const std::int32_t> Cache::positions(const CacheCopy& copy, int layer, int head) const {
  return copy.maps[map_index(layer, head)].position;
}

void Cache::copy_rows_out(const CacheCopy& copy, int layer, int head, bool keys, std::span<std::byte> to) const {
  const CacheShape& shape = arena_.shape();
  const std::size_t lane = shape.lane(layer, head), row = keys ? shape.k_row() : shape.v_row();
  assert(copy.has_rows(layer) && to.size() == copy.live[lane] * row);
  const auto* from = (const std::byte*)ggml_backend_buffer_get_base(copy.rows.get());
  for (std::size_t i = 0; i < lane; ++i) {
    if (copy.copied[i / (std::size_t)shape.n_head_kv]) from += copy.live[i] * shape.slot_bytes();
  }
  if (!keys) from += copy.live[lane] * shape.k_row();
  std::vector<RowRun> runs;
  for (const std::uint32_t slot : slots(copy, layer, head)) {
    runs.push_back({to.data(), from + slot * row, row});
    to = to.subspan(row);
  }
  mover_.move(runs);
}

void Cache::put(int layer, std::span<const Entries> entries, const std::byte* k, const std::byte* v) {
  const CacheShape& shape = arena_.shape();
  assert(entries.size() == (per_head_ ? (std::size_t)shape.n_head_kv : 1));
  std::vector<RowRun> runs;
  for (int h = 0; h < shape.n_head_kv; ++h) {
    const Entries& own = entries[per_head_ ? (std::size_t)h : 0];
    const std::size_t lane = shape.lane(layer, h);
    assert(arena_.live(lane) == 0 && own.slots.size() <= arena_.capacity(lane));
    arena_.set_live(lane, own.slots.size());
    for (const std::uint32_t slot : own.slots) {
      if (!k) break;
      runs.push_back({arena_.k(lane, slot), k, shape.k_row()});
      runs.push_back({arena_.v(lane, slot), v, shape.v_row()});
      k += shape.k_row();
      v += shape.v_row();
    }
    if (!per_head_ && h > 0) continue;
    Map& m = maps_[map_index(layer, h)];
    m.slot = own.slots;
    m.position = own.positions;
    index_slots(m);
  }
  mover_.move(runs);
}

void Cache::assign(const Cache& other) {
  const CacheShape& shape = arena_.shape();
  assert(empty() && arena_.bytes() == other.arena_.bytes());
  std::vector<std::size_t> capacities(shape.n_lanes());
  for (std::size_t lane = 0; lane < capacities.size(); ++lane) capacities[lane] = other.arena_.capacity(lane);
  arena_.divide(capacities);
  std::vector<RowRun> runs;
  for (std::size_t lane = 0; lane < capacities.size(); ++lane) {
    const std::size_t n = other.arena_.live(lane);
    arena_.set_live(lane, n);
    runs.push_back({arena_.k(lane, 0), other.arena_.k(lane, 0), n * shape.k_row()});
    runs.push_back({arena_.v(lane, 0), other.arena_.v(lane, 0), n * shape.v_row()});
  }
  mover_.move(runs);
  maps_ = other.maps_;
}

}  // namespace lacake
