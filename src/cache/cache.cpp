#include "cache/cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <numeric>

#include "lacake/bytes.h"
#include "lacake/error.h"

namespace lacake {
namespace {

// A map in the making. Reused by all compactions of a thread, as decoding may reorder every lane at every token.
struct Reordering {
  std::vector<std::uint32_t> slot;
  std::vector<std::int32_t> position;
  std::vector<std::uint8_t> taken;    // by slot
  std::vector<std::uint32_t> moving;  // entries whose rows need another slot
  std::vector<RowRun> runs;
};

// The runs of rows that a call moves, collected and then handed on at once.
class Runs {
 public:
  explicit Runs(std::vector<RowRun>& memory) : runs_(memory) { runs_.clear(); }

  void add_slot(const Arena& arena, std::size_t lane, std::size_t from, std::size_t to) {
    const CacheShape& shape = arena.shape();
    runs_.push_back({arena.k(lane, to), arena.k(lane, from), shape.k_row()});
    runs_.push_back({arena.v(lane, to), arena.v(lane, from), shape.v_row()});
  }
  void add_fresh(const Arena& arena, std::size_t lane, int head, const SegmentRows& fresh, std::size_t from,
                 std::size_t to, std::size_t n) {
    const std::size_t row = (std::size_t)head * fresh.capacity + from;
    const std::size_t k_row = arena.shape().k_row(), v_row = arena.shape().v_row();
    runs_.push_back({arena.k(lane, to), fresh.k + row * k_row, n * k_row});
    runs_.push_back({arena.v(lane, to), fresh.v + row * v_row, n * v_row});
  }
  void move(RowMover& mover) const { mover.move(runs_); }

 private:
  std::vector<RowRun>& runs_;
};

}  // namespace

Cache::Cache(const CacheShape& shape, const PolicyTraits& traits, std::uint64_t budget_bytes, KvPool& pool,
             RowMover& mover)
    : arena_(shape, budget_bytes, pool, mover),
      pool_(pool),
      mover_(mover),
      per_head_(traits.per_head || traits.uneven_heads),
      cache_index_(traits.positions == Positions::kCompacted),
      maps_(per_head_ ? shape.n_lanes() : (std::size_t)shape.n_layer) {}

std::size_t Cache::map_index(int layer, int head) const {
  return per_head_ ? arena_.shape().lane(layer, head) : (std::size_t)layer;
}

std::size_t Cache::length(int layer) const {
  std::size_t longest = 0;
  for (int h = 0; h < arena_.shape().n_head_kv; ++h) longest = std::max(longest, length(layer, h));
  return longest;
}

attention::Rows Cache::rows(int layer, int head) const {
  const CacheShape& shape = arena_.shape();
  const std::size_t lane = shape.lane(layer, head);
  return {.k = arena_.k(lane, 0),
          .v = arena_.v(lane, 0),
          .k_stride = shape.k_row(),
          .v_stride = shape.v_row(),
          .n = arena_.live(lane),
          .rope_index = cache_index_ ? map(layer, head).index_of_slot.data() : nullptr};
}

bool Cache::has_room(int layer) const {
  for (int h = 0; h < arena_.shape().n_head_kv; ++h) {
    const std::size_t lane = arena_.shape().lane(layer, h);
    if (arena_.live(lane) >= arena_.capacity(lane)) return false;
  }
  return true;
}

void Cache::append(std::int64_t position) {
  for (Map& m : maps_) {
    if (cache_index_) m.index_of_slot.push_back((std::int32_t)m.slot.size());
    m.slot.push_back((std::uint32_t)m.slot.size());
    m.position.push_back((std::int32_t)position);
  }
  for (std::size_t lane = 0; lane < arena_.shape().n_lanes(); ++lane) arena_.set_live(lane, arena_.live(lane) + 1);
}

std::byte* Cache::new_k(int layer, int head) const {
  const std::size_t lane = arena_.shape().lane(layer, head);
  return arena_.k(lane, arena_.live(lane) - 1);
}

std::byte* Cache::new_v(int layer, int head) const {
  const std::size_t lane = arena_.shape().lane(layer, head);
  return arena_.v(lane, arena_.live(lane) - 1);
}

void Cache::divide(std::span<const std::size_t> capacities) {
  const std::size_t wanted = std::accumulate(capacities.begin(), capacities.end(), std::size_t{0});
  if (wanted > arena_.n_slots()) {
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = "KV cache",
                 .found = fmt::format("{} would be held at once, the budget is {}",
                                      bytes_text(wanted * arena_.shape().slot_bytes()), bytes_text(arena_.bytes()))});
  }
  arena_.divide(capacities);
}

void Cache::make_room(int layer, std::span<const std::size_t> lengths) {
  const CacheShape& shape = arena_.shape();
  bool enough = true;
  for (int h = 0; h < shape.n_head_kv; ++h) {
    enough = enough && arena_.capacity(shape.lane(layer, h)) >= lengths[(std::size_t)h];
  }
  if (enough) return;
  std::vector<std::size_t> capacities(shape.n_lanes());
  for (std::size_t lane = 0; lane < capacities.size(); ++lane) capacities[lane] = arena_.live(lane);
  for (int h = 0; h < shape.n_head_kv; ++h) {
    std::size_t& capacity = capacities[shape.lane(layer, h)];
    capacity = std::max(capacity, lengths[(std::size_t)h]);
  }
  divide(capacities);
}

void Cache::compact(int layer, const Selection& selection, const SegmentRows& fresh) {
  const int n_head_kv = arena_.shape().n_head_kv;
  if (!per_head_) {
    assert(selection.heads.size() == 1);
    compact_map(maps_[(std::size_t)layer], layer, 0, n_head_kv, selection.heads[0], fresh);
    return;
  }
  assert(selection.heads.size() == 1 || selection.heads.size() == (std::size_t)n_head_kv);
  const auto keep = [&](int h) -> const std::vector<std::uint32_t>& {
    return selection.heads[selection.heads.size() == 1 ? 0 : (std::size_t)h];
  };
  // Where heads are uneven, what one gives up may be what another needs.
  std::vector<std::size_t> lengths((std::size_t)n_head_kv);
  std::vector<int> growing;
  for (int h = 0; h < n_head_kv; ++h) {
    lengths[(std::size_t)h] = keep(h).size();
    if (keep(h).size() > length(layer, h)) {
      growing.push_back(h);
    } else {
      compact_map(maps_[arena_.shape().lane(layer, h)], layer, h, 1, keep(h), fresh);
    }
  }
  if (!growing.empty()) make_room(layer, lengths);
  for (const int h : growing) compact_map(maps_[arena_.shape().lane(layer, h)], layer, h, 1, keep(h), fresh);
}

// The rows that stay end up in slots [0, keep.size()). One that already lies there does not move; one that lies above,
// a fresh one, and the second copy of an entry that is named twice each take a slot that nobody keeps.
void Cache::compact_map(Map& m, int layer, int first_head, int n_heads, std::span<const std::uint32_t> keep,
                        const SegmentRows& fresh) {
  const CacheShape& shape = arena_.shape();
  const std::size_t n_old = m.slot.size(), n_keep = keep.size();
  thread_local Reordering made;
  made.slot.resize(n_keep);
  made.position.resize(n_keep);
  made.taken.assign(n_keep, 0);
  made.moving.clear();
  // Plain pointers: a store of bytes could change the vectors' own for all the compiler knows, and this loop is half of
  // what reordering a lane costs.
  const std::uint32_t* old_slot = m.slot.data();
  const std::int32_t* old_position = m.position.data();
  std::uint32_t* new_slot = made.slot.data();
  std::int32_t* new_position = made.position.data();
  std::uint8_t* taken = made.taken.data();
  for (std::size_t i = 0; i < n_keep; ++i) {
    assert(keep[i] < n_old + fresh.n);
    const bool old = keep[i] < n_old;
    new_position[i] =
        old ? old_position[keep[i]] : (std::int32_t)(fresh.first_position + (std::int64_t)(keep[i] - n_old));
    const std::uint32_t slot = old ? old_slot[keep[i]] : UINT32_MAX;
    if (slot < n_keep && !taken[slot]) {
      taken[slot] = 1;
      new_slot[i] = slot;
    } else {
      made.moving.push_back((std::uint32_t)i);
    }
  }
  for (int h = first_head; h < first_head + n_heads; ++h) {
    const std::size_t lane = shape.lane(layer, h);
    assert(n_keep <= arena_.capacity(lane));
    arena_.set_live(lane, n_keep);
  }
  Runs runs(made.runs);
  std::size_t free = 0;
  for (const std::uint32_t i : made.moving) {
    while (taken[free]) ++free;
    const std::size_t to = free++;
    new_slot[i] = (std::uint32_t)to;
    for (int h = first_head; h < first_head + n_heads; ++h) {
      const std::size_t lane = shape.lane(layer, h);
      if (keep[i] < n_old) {
        runs.add_slot(arena_, lane, m.slot[keep[i]], to);
      } else {
        runs.add_fresh(arena_, lane, h, fresh, keep[i] - n_old, to, 1);
      }
    }
  }
  runs.move(mover_);
  m.slot.assign(new_slot, new_slot + n_keep);
  m.position.assign(new_position, new_position + n_keep);
  index_slots(m);
}

void Cache::drop(int layer, std::span<const std::uint32_t> entries) {
  const int n_head_kv = arena_.shape().n_head_kv;
  if (!per_head_) {
    assert(entries.size() == 1);
    drop_from_map(maps_[(std::size_t)layer], layer, 0, n_head_kv, entries[0]);
    return;
  }
  assert(entries.size() == 1 || entries.size() == (std::size_t)n_head_kv);
  for (int h = 0; h < n_head_kv; ++h) {
    const std::uint32_t entry = entries[entries.size() == 1 ? 0 : (std::size_t)h];
    drop_from_map(maps_[arena_.shape().lane(layer, h)], layer, h, 1, entry);
  }
}

// The row of the last slot takes the freed one.
void Cache::drop_from_map(Map& m, int layer, int first_head, int n_heads, std::uint32_t entry) {
  if (entry == CacheEdits::kNoEntry) return;
  assert(entry < m.slot.size());
  const std::uint32_t freed = m.slot[entry], last = (std::uint32_t)m.slot.size() - 1;
  thread_local std::vector<RowRun> memory;
  Runs runs(memory);
  for (int h = first_head; h < first_head + n_heads; ++h) {
    const std::size_t lane = arena_.shape().lane(layer, h);
    if (freed != last) runs.add_slot(arena_, lane, last, freed);
    arena_.set_live(lane, last);
  }
  runs.move(mover_);
  // In decoding the last slot nearly always holds the newest entry.
  const auto moved = m.slot.back() == last ? std::prev(m.slot.end()) : std::find(m.slot.begin(), m.slot.end(), last);
  *moved = freed;
  m.slot.erase(m.slot.begin() + entry);
  m.position.erase(m.position.begin() + entry);
  if (!cache_index_) return;
  m.index_of_slot[freed] = m.index_of_slot[last];
  m.index_of_slot.pop_back();
  for (std::int32_t& index : m.index_of_slot) index -= index > (std::int32_t)entry ? 1 : 0;
}

void Cache::append(int layer, const SegmentRows& fresh) {
  const CacheShape& shape = arena_.shape();
  std::vector<RowRun> memory;
  Runs runs(memory);
  for (int h = 0; h < shape.n_head_kv; ++h) {
    const std::size_t lane = shape.lane(layer, h), n_old = arena_.live(lane);
    arena_.set_live(lane, n_old + fresh.n);
    runs.add_fresh(arena_, lane, h, fresh, 0, n_old, fresh.n);
  }
  runs.move(mover_);
  const std::size_t first = per_head_ ? shape.lane(layer, 0) : (std::size_t)layer;
  const std::size_t n_maps = per_head_ ? (std::size_t)shape.n_head_kv : 1;
  for (std::size_t i = first; i < first + n_maps; ++i) {
    Map& m = maps_[i];
    for (std::size_t j = 0; j < fresh.n; ++j) {
      m.slot.push_back((std::uint32_t)m.slot.size());
      m.position.push_back((std::int32_t)(fresh.first_position + (std::int64_t)j));
    }
    index_slots(m);
  }
}

void Cache::resize(std::uint64_t budget_bytes) {
  // Of a larger arena first the memory: it may be refused.
  if (budget_bytes > arena_.bytes()) return arena_.resize(budget_bytes);
  std::vector<std::size_t> capacities(arena_.shape().n_lanes());
  for (std::size_t lane = 0; lane < capacities.size(); ++lane) capacities[lane] = arena_.live(lane);
  arena_.divide(capacities);
  arena_.resize(budget_bytes);
}

void Cache::clear() {
  for (std::size_t lane = 0; lane < arena_.shape().n_lanes(); ++lane) arena_.set_live(lane, 0);
  for (Map& m : maps_) m = {};
}

void Cache::index_slots(Map& m) {
  if (!cache_index_) return;
  m.index_of_slot.resize(m.slot.size());
  for (std::size_t i = 0; i < m.slot.size(); ++i) m.index_of_slot[m.slot[i]] = (std::int32_t)i;
}

std::uint64_t Cache::metadata_bytes(const CacheShape& shape, const PolicyTraits& traits, std::size_t n_entries) {
  const std::uint64_t maps = traits.per_head || traits.uneven_heads ? (std::uint64_t)shape.n_head_kv : 1;
  const std::uint64_t indices = traits.positions == Positions::kCompacted ? 2 : 1;
  return n_entries * maps * (sizeof(std::uint32_t) + indices * sizeof(std::int32_t));
}

std::string Cache::text(int layer, int head) const {
  std::string out;
  const auto positions = this->positions(layer, head);
  for (std::size_t i = 0; i < positions.size();) {
    std::size_t j = i + 1;
    while (j < positions.size() && positions[j] == positions[j - 1] + 1) ++j;
    if (i > 0) out += positions[i] <= positions[i - 1] ? " | " : " ";
    out += j - i > 1 ? fmt::format("{}-{}", positions[i], positions[j - 1]) : fmt::format("{}", positions[i]);
    i = j;
  }
  return out;
}

}  // namespace lacake
