#pragma once

#include <cstddef>
#include <span>

namespace lacake {

// Bytes of rows that lie one behind the other and move together. Addresses are those of the place that owns the memory.
struct RowRun {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  std::size_t bytes = 0;
};

// Moves rows within a place's memory. The cache says which rows move and never touches them itself.
class RowMover {
 public:
  virtual ~RowMover() = default;
  // Moves the runs one after the other, in this order; a run's two ranges may overlap. Several threads may move runs of
  // different lanes at the same time.
  virtual void move(std::span<const RowRun> runs) = 0;
};

}  // namespace lacake
