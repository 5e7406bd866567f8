#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/row_mover.h"
#include "ggml-cpp.h"

namespace lacake {

class KvPool;

// Memory of one session's cache: a piece of a pool, given back when this goes. Its address changes when the pool closes
// gaps, so ask for base() anew after any other lease was made, resized or given back.
class KvLease {
 public:
  ~KvLease();
  KvLease(const KvLease&) = delete;
  KvLease& operator=(const KvLease&) = delete;

  std::byte* base() const;
  std::uint64_t bytes() const { return bytes_; }

  // More or less from here on; what the first min(old, new) bytes hold stays. Throws Error(kCapacity), and changes
  // nothing, if the pool has not as much free. Less never throws.
  void resize(std::uint64_t bytes);

 private:
  friend class KvPool;
  KvLease(KvPool& pool, std::uint64_t bytes) : pool_(&pool), bytes_(bytes) {}

  KvPool* pool_;
  std::uint64_t bytes_;
  std::uint64_t offset_ = 0;        // of a reservation
  ggml_backend_buffer_ptr buffer_;  // without one
};

// The KV memory of many sessions: leases out of one reservation, never beyond it.
//
//     | lease A ######## | lease C #### |      free      | lease B ############ |     one buffer
//
// A lease is one run of bytes, so that rows lie as attention wants them. Where what is free does not lie together, the
// pool moves leases until it does: whatever fits by its bytes gets its place. Closing gaps costs a copy of what moves;
// it happens only when no gap is large enough.
//
// A pool without a reservation gives each lease a buffer of its own, for programs with a few sessions.
//
// One thread at a time, and not while a graph reads the rows.
class KvPool {
 public:
  // Borrows the mover, which moves rows in memory of this type. `reserved` 0: no reservation.
  // Throws Error(kCapacity) if the memory cannot be had.
  KvPool(RowMover& mover, ggml_backend_buffer_type_t type, std::uint64_t reserved);
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;
  ~KvPool();

  // Throws Error(kCapacity) with the figures if not as much is free.
  std::unique_ptr<KvLease> lease(std::uint64_t bytes);

  // Memory of the same kind beside the reservation, for copies that last no longer than a call or a job. Throws
  // Error(kCapacity) if it cannot be had.
  ggml_backend_buffer_ptr allocate(std::uint64_t bytes) const;

  // What a lease of so many bytes takes of the reservation.
  static std::uint64_t taken(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  bool has_reservation() const { return reserved_ > 0; }
  std::uint64_t reserved() const { return reserved_; }
  std::uint64_t leased() const { return leased_; }            // taken by all leases
  std::uint64_t free() const { return reserved_ - leased_; }  // REQUIRES: has_reservation()
  std::size_t n_leases() const { return leases_.size(); }

  static constexpr std::uint64_t kAlignment = 64;  // of every lease: a cache line

 private:
  friend class KvLease;
  void require_free(std::uint64_t bytes) const;
  // Puts a lease where `bytes` are free together, in order of address; the lease is not in the list.
  void place(KvLease& lease, std::uint64_t bytes);
  // The offset of a gap of `bytes`, and the index in leases_ before which it lies; `before` is kNone where there is
  // none.
  struct Gap {
    std::uint64_t offset;
    std::size_t before;
  };
  static constexpr std::size_t kNone = SIZE_MAX;
  Gap find_gap(std::uint64_t bytes) const;
  // Moves every lease to its offset [n_leases]; they stay in order.
  void move_to(const std::vector<std::uint64_t>& offsets);
  void move(KvLease& lease, std::uint64_t to);
  void resize(KvLease& lease, std::uint64_t bytes);
  void resize_reserved(KvLease& lease, std::uint64_t bytes);
  void give_back(KvLease& lease);
  std::size_t index_of(const KvLease& lease) const;

  RowMover& mover_;
  ggml_backend_buffer_type_t type_;
  std::uint64_t reserved_;
  std::uint64_t leased_ = 0;
  ggml_backend_buffer_ptr buffer_;
  std::byte* base_ = nullptr;
  std::vector<KvLease*> leases_;  // by offset
};

}  // namespace lacake
