#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/kv_pool.h"
#include "ggml-cpp.h"

namespace lacake {

// The sizes of a KV cache, in ggml types.
struct CacheShape {
  int n_layer = 0;
  int n_head_kv = 0;
  int d_k = 0;
  int d_v = 0;
  ggml_type type_k = GGML_TYPE_F16;
  ggml_type type_v = GGML_TYPE_F16;

  std::size_t k_row() const { return ggml_row_size(type_k, d_k); }
  std::size_t v_row() const { return ggml_row_size(type_v, d_v); }
  std::size_t slot_bytes() const { return k_row() + v_row(); }                       // one KV head's part of an entry
  std::size_t entry_bytes() const { return slot_bytes() * (std::size_t)n_head_kv; }  // one token in one layer
  std::size_t n_lanes() const { return (std::size_t)n_layer * (std::size_t)n_head_kv; }
  std::size_t lane(int layer, int head) const {
    return (std::size_t)layer * (std::size_t)n_head_kv + (std::size_t)head;
  }
};

// The memory of one session's cache: one lease of a pool, divided among lanes. A *lane* is one KV head of one layer; a
// *slot* of a lane holds one K row and one V row. Lanes are slices that move when they are re-divided:
//
//     K rows  | lane 0: ####.. | lane 1: ###. | lane 2: ######. | ...      # live   . free
//     V rows  | lane 0: ####.. | lane 1: ###. | lane 2: ######. | ...      same slots, behind all K rows
//
// The live slots of a lane are always its first. The arena knows nothing of tokens or policies, and moves no byte
// itself: it says which rows move (cache/row_mover.h).
class Arena {
 public:
  // As many whole entries as fit `budget_bytes`. Borrows pool and mover. Throws Error(kCapacity) if the pool has not as
  // much free.
  Arena(const CacheShape&, std::uint64_t budget_bytes, KvPool& pool, RowMover& mover);

  // Gives every lane its capacity [n_lanes], in order, and moves what lives. Each lane moves at most once; lanes that
  // stay where they are cost nothing.
  // REQUIRES: capacities[i] >= live(i), their sum <= n_slots().
  void divide(std::span<const std::size_t> capacities);

  // Holds as many whole entries as fit `budget_bytes` from here on. More: throws Error(kCapacity), and changes nothing,
  // if the pool has not as much free. Less: REQUIRES that the lanes' capacities were divided to fit, and never throws.
  void resize(std::uint64_t budget_bytes);

  std::size_t n_slots() const { return n_slots_; }
  std::uint64_t bytes() const { return n_slots_ * shape_.slot_bytes(); }
  const CacheShape& shape() const { return shape_; }

  std::size_t capacity(std::size_t lane) const { return lanes_[lane].capacity; }
  std::size_t live(std::size_t lane) const { return lanes_[lane].live; }
  // REQUIRES: n <= capacity(lane). Several lanes may shrink at the same time.
  void set_live(std::size_t lane, std::size_t n);
  std::size_t total_live() const { return total_live_; }
  std::size_t peak_live() const { return peak_live_; }

  // Where a copy of the lane's live rows would lie in `to`: all K rows, then all V rows. live_bytes() of it.
  std::uint64_t live_bytes(std::size_t lane) const { return live(lane) * shape_.slot_bytes(); }
  void copy_out(std::size_t lane, std::byte* to) const;
  // The lane holds these `n` rows, as copy_out left them. REQUIRES: n <= capacity(lane).
  void copy_in(std::size_t lane, std::size_t n, const std::byte* from);

  // Rows lie one after the other: slot s + 1 is shape().k_row() (v_row()) bytes after slot s.
  std::byte* k(std::size_t lane, std::size_t slot) const;
  std::byte* v(std::size_t lane, std::size_t slot) const;

 private:
  struct Lane {
    std::size_t offset = 0;  // slots from the arena's start
    std::size_t capacity = 0;
    std::size_t live = 0;
  };
  void move(Lane& lane, std::size_t to);
  std::byte* k_base() const { return lease_->base(); }
  std::byte* v_base() const { return lease_->base() + n_slots_ * shape_.k_row(); }
  static std::size_t slots_of(const CacheShape& shape, std::uint64_t bytes) {
    return (std::size_t)(bytes / shape.entry_bytes()) * (std::size_t)shape.n_head_kv;
  }
  std::size_t used_slots() const;  // up to the end of the last lane

  CacheShape shape_;
  std::size_t n_slots_ = 0;
  RowMover& mover_;
  std::unique_ptr<KvLease> lease_;
  std::vector<Lane> lanes_;
  std::size_t total_live_ = 0;
  std::size_t peak_live_ = 0;
};

}  // namespace lacake
