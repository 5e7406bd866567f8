#include "cache/arena.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <numeric>

namespace lacake {

Arena::Arena(const CacheShape& shape, std::uint64_t budget_bytes, KvPool& pool, RowMover& mover)
    : shape_(shape),
      n_slots_(slots_of(shape, budget_bytes)),
      mover_(mover),
      lease_(pool.lease(n_slots_ * shape.slot_bytes())),
      lanes_(shape.n_lanes()) {}

std::byte* Arena::k(std::size_t lane, std::size_t slot) const {
  return k_base() + (lanes_[lane].offset + slot) * shape_.k_row();
}

std::byte* Arena::v(std::size_t lane, std::size_t slot) const {
  return v_base() + (lanes_[lane].offset + slot) * shape_.v_row();
}

void Arena::set_live(std::size_t lane, std::size_t n) {
  assert(n <= lanes_[lane].capacity);
  std::size_t& live = lanes_[lane].live;
  if (n > live) {
    total_live_ += n - live;
    peak_live_ = std::max(peak_live_, total_live_);
  } else {
    std::atomic_ref(total_live_).fetch_sub(live - n, std::memory_order_relaxed);
  }
  live = n;
}

void Arena::move(Lane& lane, std::size_t to) {
  const std::size_t k_row = shape_.k_row(), v_row = shape_.v_row();
  const RowRun runs[] = {{k_base() + to * k_row, k_base() + lane.offset * k_row, lane.live * k_row},
                         {v_base() + to * v_row, v_base() + lane.offset * v_row, lane.live * v_row}};
  mover_.move(runs);
  lane.offset = to;
}

std::size_t Arena::used_slots() const {
  std::size_t end = 0;
  for (const Lane& lane : lanes_) end = std::max(end, lane.offset + lane.live);
  return end;
}

// K rows lie at the lease's beginning whatever its size; V rows behind the room of all K rows, so they move.
void Arena::resize(std::uint64_t budget_bytes) {
  const std::size_t n_before = n_slots_, n_after = slots_of(shape_, budget_bytes);
  const std::size_t v_bytes = used_slots() * shape_.v_row();
  const auto move_values = [&] {
    const RowRun run{lease_->base() + n_after * shape_.k_row(), lease_->base() + n_before * shape_.k_row(), v_bytes};
    mover_.move({&run, 1});
    n_slots_ = n_after;
  };
  if (n_after > n_before) {
    lease_->resize(n_after * shape_.slot_bytes());
    move_values();
  } else if (n_after < n_before) {
    assert(used_slots() <= n_after);
    move_values();
    lease_->resize(n_after * shape_.slot_bytes());
  }
}

void Arena::copy_out(std::size_t lane, std::byte* to) const {
  const std::size_t k_bytes = live(lane) * shape_.k_row();
  const RowRun runs[] = {{to, k(lane, 0), k_bytes}, {to + k_bytes, v(lane, 0), live(lane) * shape_.v_row()}};
  mover_.move(runs);
}

void Arena::copy_in(std::size_t lane, std::size_t n, const std::byte* from) {
  set_live(lane, n);
  const std::size_t k_bytes = n * shape_.k_row();
  const RowRun runs[] = {{k(lane, 0), from, k_bytes}, {v(lane, 0), from + k_bytes, n * shape_.v_row()}};
  mover_.move(runs);
}

// First the lanes that move down, in ascending order, then those that move up, in descending order. No move lands on a
// lane that has yet to move: a lane going down stays below the old place of the next one, and one going up above the
// old place of the one before, because lanes keep their order and capacities hold what lives.
void Arena::divide(std::span<const std::size_t> capacities) {
  assert(capacities.size() == lanes_.size());
  assert(std::accumulate(capacities.begin(), capacities.end(), std::size_t{0}) <= n_slots_);
  std::vector<std::size_t> offsets(lanes_.size());
  std::exclusive_scan(capacities.begin(), capacities.end(), offsets.begin(), std::size_t{0});
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    assert(capacities[i] >= lanes_[i].live);
    lanes_[i].capacity = capacities[i];
    if (offsets[i] < lanes_[i].offset) move(lanes_[i], offsets[i]);
  }
  for (std::size_t i = lanes_.size(); i-- > 0;) {
    if (offsets[i] > lanes_[i].offset) move(lanes_[i], offsets[i]);
  }
}

}  // namespace lacake
