#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "cache/arena.h"
#include "lacake/policy_author.h"

namespace lacake {

// K and V rows of one layer's new tokens, outside the arena: [n_head_kv] blocks of `capacity` rows, of which `n` are
// filled. Keys in the form that the cache stores.
struct SegmentRows {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  std::size_t capacity = 0;
  std::size_t n = 0;
  std::int64_t first_position = 0;  // in the conversation, of row 0
};

// What a cache held at one moment, so that it can be put back.
class CacheCopy {
 public:
  std::uint64_t bytes() const { return rows ? ggml_backend_buffer_get_size(rows.get()) : 0; }
  // Else its rows are the first of those that the cache still holds there: the layer only grew.
  bool has_rows(int layer) const { return copied[(std::size_t)layer]; }

 private:
  friend class Cache;
  // The entries of a lane, or of all lanes of a layer where heads keep the same tokens.
  struct Map {
    std::vector<std::uint32_t> slot;          // by entry
    std::vector<std::int32_t> position;       // by entry: of its token in the conversation
    std::vector<std::int32_t> index_of_slot;  // inverse of `slot`; only under Positions::kCompacted
  };
  std::vector<Map> maps;
  std::vector<std::size_t> capacities, live;  // by lane
  std::vector<bool> copied;                   // by layer
  ggml_backend_buffer_ptr rows;               // of the copied layers' lanes, one after the other
};

// The entries of one session: which token lies in which slot of which lane, in which order. Applies selections, by
// moving as few rows as can be: what stays in place is not touched, so dropping one entry costs one row a head. It says
// which rows move; the place that owns the memory moves them.
//
// *Stored order* is the policy's: entry i of a lane is the i-th of the last selection, then what was appended. It is
// kept as a permutation of slots, because moving rows to keep them in order would copy the cache at every token.
//
// One thread at a time, except where a member says otherwise.
class Cache {
 public:
  // Borrows pool and mover. Throws as Arena.
  Cache(const CacheShape&, const PolicyTraits&, std::uint64_t budget_bytes, KvPool& pool, RowMover& mover);

  const Arena& arena() const { return arena_; }
  std::size_t length(int layer, int head) const { return arena_.live(arena_.shape().lane(layer, head)); }
  std::size_t length(int layer) const;  // of the longest head
  bool empty() const { return arena_.total_live() == 0; }

  // The lane's rows in slot order, for attention (which does not care for the order of entries).
  attention::Rows rows(int layer, int head) const;
  // By entry, in stored order: the slot where its rows lie, and the position of its token in the conversation.
  std::span<const std::uint32_t> slots(int layer, int head) const { return map(layer, head).slot; }
  std::span<const std::int32_t> positions(int layer, int head) const { return map(layer, head).position; }

  // --- decode: one new token in every lane -----------------------------------------------------------------------
  bool has_room(int layer) const;  // for one token in every lane of the layer
  // Makes room at the end of every lane; its rows are then written by attention through new_k / new_v, at slot
  // length - 1. REQUIRES: has_room() of every layer.
  void append(std::int64_t position);
  std::byte* new_k(int layer, int head) const;
  std::byte* new_v(int layer, int head) const;

  // --- compaction ------------------------------------------------------------------------------------------------
  // Makes lane capacities these: [n_lanes]. Throws Error(kCapacity) if they are more than the arena has.
  void divide(std::span<const std::size_t> capacities);
  // Every lane as large as what it holds, but `layer` with room for `lengths` [n_head_kv] entries a head. Throws
  // likewise.
  void make_room(int layer, std::span<const std::size_t> lengths);
  // Keeps exactly `selection` of the layer's entries and of `fresh` behind them. Heads that hold their own entries make
  // room for each other, as make_room does. Different layers may be compacted at the same time where no head grows.
  // REQUIRES: room for it (make_room) where heads hold the same; indices below length + fresh.n.
  void compact(int layer, const Selection& selection, const SegmentRows& fresh = {});
  // Drops one entry of all heads alike, or one of each ([1] or [n_head_kv], CacheEdits::kNoEntry: none of this head).
  // One row moves, and the order closes up.
  void drop(int layer, std::span<const std::uint32_t> entries);
  // Keeps everything.
  void append(int layer, const SegmentRows& fresh);

  // --- all of it -------------------------------------------------------------------------------------------------
  // Every lane as large as what it holds, and the arena of this size. More: throws Error(kCapacity), and changes
  // nothing, if the pool has not as much free. Less: REQUIRES that what is held fits.
  void resize(std::uint64_t budget_bytes);
  void clear();
  // What is there now. Rows are copied of the layers that `loses` names; the others must only grow until restore(),
  // which then cuts them back. Throws Error(kCapacity) if there is no memory for it.
  CacheCopy copy(const std::function<bool(int layer)>& loses) const;
  // The same bits as when the copy was made. REQUIRES: the arena is as large as it was then.
  void restore(const CacheCopy& copy);

  // --- out of this process and into it ---------------------------------------------------------------------------
  // Do the heads of a layer hold their own entries? Else they are those of head 0.
  bool per_head() const { return per_head_; }
  // Lists of entries that a layer has: one for each of its heads, or one for all of them.
  int n_lists() const { return per_head_ ? arena().shape().n_head_kv : 1; }
  // A lane's keys or values in stored order, to memory of the host: [length] rows.
  void copy_rows_out(int layer, int head, bool keys, std::span<std::byte> to) const;
  // The same of a moment. REQUIRES: it is one of this cache, and has the layer's rows.
  std::size_t length(const CacheCopy& copy, int layer, int head) const;
  std::span<const std::uint32_t> slots(const CacheCopy& copy, int layer, int head) const;
  std::span<const std::int32_t> positions(const CacheCopy& copy, int layer, int head) const;
  void copy_rows_out(const CacheCopy& copy, int layer, int head, bool keys, std::span<std::byte> to) const;
  // The entries of a layer that holds none: of each head, or of all where heads hold the same.
  struct Entries {
    std::vector<std::uint32_t> slots;     // by entry: a permutation of 0 .. n - 1
    std::vector<std::int32_t> positions;  // by entry
  };
  // REQUIRES: room for them.
  //   entries  [n_head_kv], or one where heads hold the same
  //   k, v     [n_head_kv] runs of rows in stored order, one run behind the other; null: the slots stay as they are
  void put(int layer, std::span<const Entries> entries, const std::byte* k, const std::byte* v);

  // Holds the same as another cache of its shape, bit for bit. REQUIRES: this one is empty, and as large.
  void assign(const Cache& other);

  // Bytes of orders and positions of `n_entries` entries over all layers.
  static std::uint64_t metadata_bytes(const CacheShape&, const PolicyTraits&, std::size_t n_entries);

  // "0-3 17 21-22 | 9 60-63": positions of the tokens of a lane in stored order, as runs; a bar where they go
  // backwards. For tests and messages.
  std::string text(int layer, int head) const;

 private:
  using Map = CacheCopy::Map;
  std::size_t map_index(int layer, int head) const;
  const Map& map(int layer, int head) const { return maps_[map_index(layer, head)]; }
  void compact_map(Map& map, int layer, int first_head, int n_heads, std::span<const std::uint32_t> keep,
                   const SegmentRows& fresh);
  void drop_from_map(Map& map, int layer, int first_head, int n_heads, std::uint32_t entry);
  void index_slots(Map& map);

  Arena arena_;
  KvPool& pool_;
  RowMover& mover_;
  bool per_head_;
  bool cache_index_;
  std::vector<Map> maps_;  // [n_layer * n_head_kv] if per_head_, else [n_layer]
};

}  // namespace lacake
