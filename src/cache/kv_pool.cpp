#include "cache/kv_pool.h"

#include <algorithm>
#include <cassert>

#include "lacake/bytes.h"
#include "lacake/error.h"

namespace lacake {

KvLease::~KvLease() { pool_->give_back(*this); }

std::byte* KvLease::base() const {
  if (pool_->has_reservation()) return pool_->base_ + offset_;
  return buffer_ ? (std::byte*)ggml_backend_buffer_get_base(buffer_.get()) : nullptr;
}

void KvLease::resize(std::uint64_t bytes) { pool_->resize(*this, bytes); }

KvPool::KvPool(RowMover& mover, ggml_backend_buffer_type_t type, std::uint64_t reserved)
    : mover_(mover), type_(type), reserved_(reserved / kAlignment * kAlignment) {
  if (reserved == 0) return;
  if (reserved_ == 0) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "kv_memory",
                 .expected = bytes_text(kAlignment) + " or more",
                 .found = bytes_text(reserved)});
  }
  buffer_ = allocate(reserved_ + kAlignment);
  const auto base = (std::uintptr_t)ggml_backend_buffer_get_base(buffer_.get());
  base_ = (std::byte*)((base + kAlignment - 1) / kAlignment * kAlignment);
}

KvPool::~KvPool() { assert(leases_.empty()); }

ggml_backend_buffer_ptr KvPool::allocate(std::uint64_t bytes) const {
  ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(type_, (std::size_t)bytes));
  if (!buffer) {
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = "KV cache of " + bytes_text(bytes),
                 .found = "the system refused the memory"});
  }
  return buffer;
}

void KvPool::require_free(std::uint64_t bytes) const {
  if (bytes <= free()) return;
  throw Error({.kind = Error::Kind::kCapacity,
               .subject = "kv_memory",
               .expected = bytes_text(bytes) + " free for this session",
               .found = bytes_text(free()) + " free of " + bytes_text(reserved_),
               .remedy = "a smaller budget or one session less would do"});
}

std::unique_ptr<KvLease> KvPool::lease(std::uint64_t bytes) {
  const std::uint64_t needed = taken(bytes);
  if (has_reservation()) require_free(needed);
  // Space in the list first: afterwards nothing may fail.
  leases_.reserve(leases_.size() + 1);
  std::unique_ptr<KvLease> lease(new KvLease(*this, bytes));
  if (has_reservation()) {
    place(*lease, needed);
  } else {
    try {
      lease->buffer_ = allocate(needed);
    } catch (...) {
      lease->bytes_ = 0;  // what its end gives back
      throw;
    }
    leases_.push_back(lease.get());
  }
  leased_ += needed;
  return lease;
}

std::size_t KvPool::index_of(const KvLease& lease) const {
  return (std::size_t)(std::find(leases_.begin(), leases_.end(), &lease) - leases_.begin());
}

KvPool::Gap KvPool::find_gap(std::uint64_t bytes) const {
  std::uint64_t end = 0;
  for (std::size_t i = 0; i <= leases_.size(); ++i) {
    const std::uint64_t next = i < leases_.size() ? leases_[i]->offset_ : reserved_;
    if (next - end >= bytes) return {end, i};
    if (i < leases_.size()) end = next + taken(leases_[i]->bytes_);
  }
  return {0, kNone};
}

void KvPool::place(KvLease& lease, std::uint64_t bytes) {
  Gap gap = find_gap(bytes);
  if (gap.before == kNone) {
    std::vector<std::uint64_t> offsets;
    std::uint64_t end = 0;
    for (const KvLease* other : leases_) {
      offsets.push_back(end);
      end += taken(other->bytes_);
    }
    move_to(offsets);
    gap = {end, leases_.size()};
  }
  lease.offset_ = gap.offset;
  leases_.insert(leases_.begin() + (std::ptrdiff_t)gap.before, &lease);
}

void KvPool::move(KvLease& lease, std::uint64_t to) {
  const RowRun run{base_ + to, base_ + lease.offset_, (std::size_t)lease.bytes_};
  mover_.move({&run, 1});
  lease.offset_ = to;
}

// First the leases that move down, in ascending order, then those that move up, in descending order: so none lands on
// one that has yet to move, because they keep their order and their sizes.
void KvPool::move_to(const std::vector<std::uint64_t>& offsets) {
  for (std::size_t i = 0; i < leases_.size(); ++i) {
    if (offsets[i] < leases_[i]->offset_) move(*leases_[i], offsets[i]);
  }
  for (std::size_t i = leases_.size(); i-- > 0;) {
    if (offsets[i] > leases_[i]->offset_) move(*leases_[i], offsets[i]);
  }
}

void KvPool::resize(KvLease& lease, std::uint64_t bytes) {
  const std::uint64_t before = taken(lease.bytes_), after = taken(bytes);
  if (has_reservation()) {
    resize_reserved(lease, bytes);
  } else if (after != before) {
    // A smaller buffer that cannot be had now is no reason to fail: the larger one stays.
    try {
      ggml_backend_buffer_ptr moved = allocate(after);
      const RowRun run{(std::byte*)ggml_backend_buffer_get_base(moved.get()), lease.base(),
                       (std::size_t)std::min(lease.bytes_, bytes)};
      mover_.move({&run, 1});
      lease.buffer_ = std::move(moved);
    } catch (const Error&) {
      if (after > before) throw;
    }
  }
  leased_ += after - before;
  lease.bytes_ = bytes;
}

void KvPool::resize_reserved(KvLease& lease, std::uint64_t bytes) {
  const std::uint64_t before = taken(lease.bytes_), after = taken(bytes);
  if (after <= before) return;
  require_free(after - before);
  const std::size_t i = index_of(lease);
  const std::uint64_t next = i + 1 < leases_.size() ? leases_[i + 1]->offset_ : reserved_;
  if (next - lease.offset_ >= after) return;
  // Into a gap that holds all of it, or the others make room where it is: those below close up downwards, those above
  // move up as far as they have to.
  if (const Gap gap = find_gap(after); gap.before != kNone) {
    move(lease, gap.offset);
    leases_.erase(leases_.begin() + (std::ptrdiff_t)i);
    leases_.insert(leases_.begin() + (std::ptrdiff_t)(gap.before > i ? gap.before - 1 : gap.before), &lease);
    return;
  }
  std::vector<std::uint64_t> offsets;
  std::uint64_t end = 0;
  for (std::size_t j = 0; j < leases_.size(); ++j) {
    // Above it a lease moves only where it is in the way.
    if (j > i) end = std::max(end, leases_[j]->offset_);
    offsets.push_back(end);
    end += j == i ? after : taken(leases_[j]->bytes_);
  }
  // What lies at the end may have been pushed out: then all of those above close up behind it.
  if (end > reserved_) {
    end = offsets[i] + after;
    for (std::size_t j = i + 1; j < leases_.size(); ++j) {
      offsets[j] = end;
      end += taken(leases_[j]->bytes_);
    }
  }
  move_to(offsets);
}

void KvPool::give_back(KvLease& lease) {
  const std::size_t i = index_of(lease);
  if (i == leases_.size()) return;  // never became one
  leased_ -= taken(lease.bytes_);
  leases_.erase(leases_.begin() + (std::ptrdiff_t)i);
}

}  // namespace lacake
