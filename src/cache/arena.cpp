#include "cache/arena.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>
#include <numeric>

#include "lacake/budget.h"
#include "lacake/error.h"

namespace lacake {

Arena::Arena(const CacheShape& shape, std::uint64_t budget_bytes, ggml_backend_buffer_type_t type)
    : shape_(shape), lanes_(shape.n_lanes()) {
  n_slots_ = (std::size_t)(budget_bytes / shape.entry_bytes()) * (std::size_t)shape.n_head_kv;
  buffer_.reset(ggml_backend_buft_alloc_buffer(type, (std::size_t)bytes()));
  if (!buffer_) {
    throw Error(Error::Kind::kCapacity,
                fmt::format("KV cache of {}: the system refused the memory", bytes_text(bytes())));
  }
  k_base_ = (std::byte*)ggml_backend_buffer_get_base(buffer_.get());
  v_base_ = k_base_ + n_slots_ * shape_.k_row();
}

std::byte* Arena::k(std::size_t lane, std::size_t slot) const {
  return k_base_ + (lanes_[lane].offset + slot) * shape_.k_row();
}

std::byte* Arena::v(std::size_t lane, std::size_t slot) const {
  return v_base_ + (lanes_[lane].offset + slot) * shape_.v_row();
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
  std::memmove(k_base_ + to * k_row, k_base_ + lane.offset * k_row, lane.live * k_row);
  std::memmove(v_base_ + to * v_row, v_base_ + lane.offset * v_row, lane.live * v_row);
  lane.offset = to;
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
