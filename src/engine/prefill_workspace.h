#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace lacake {

// A block of memory that grows when more is asked for and is not cleared: what is never written is never resident.
class GrowingBuffer {
 public:
  void reserve(std::uint64_t bytes) {
    if (bytes <= bytes_) return;
    memory_.reset();
    bytes_ = 0;
    memory_ = std::make_unique_for_overwrite<std::byte[]>((std::size_t)bytes);
    bytes_ = bytes;
  }
  std::byte* data() const { return memory_.get(); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::uint64_t bytes_ = 0;
};

// The sizes of what one layer of a segment needs outside the arena.
struct WorkspaceShape {
  std::uint64_t k = 0;        // keys of the segment, all heads, as attention reads them
  std::uint64_t v = 0;        // values
  std::uint64_t record = 0;   // recorded probabilities and what is computed from them
  std::uint64_t k_plain = 0;  // the keys as projected, where attention reads rotated ones and a cache keeps plain ones
  std::uint64_t inputs = 0;   // learned scores of the segment's tokens, and what their keys were projected from
  std::uint64_t total() const { return k + v + record + k_plain + inputs; }
};

// One layer's workspace, used by one layer after the other.
struct PrefillWorkspace {
  GrowingBuffer k;
  GrowingBuffer v;
  GrowingBuffer record;
  GrowingBuffer k_plain;
  GrowingBuffer inputs;

  void reserve(const WorkspaceShape& shape) {
    k.reserve(shape.k);
    v.reserve(shape.v);
    record.reserve(shape.record);
    k_plain.reserve(shape.k_plain);
    inputs.reserve(shape.inputs);
  }
  std::uint64_t bytes() const { return k.bytes() + v.bytes() + record.bytes() + k_plain.bytes() + inputs.bytes(); }
};

}  // namespace lacake
