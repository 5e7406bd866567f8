#pragma once

#include <cstddef>

namespace lacake::matmul {

// A stretch of memory that many blocks are taken from, one after the other, in large pages where the system gives them:
// a stream of weights then comes a third faster from memory. What is never touched is never resident.
class LargePages {
 public:
  // Reserves addresses for `bytes`. Throws Error(kCapacity) if the system refuses.
  explicit LargePages(std::size_t bytes);
  ~LargePages();
  LargePages(const LargePages&) = delete;
  LargePages& operator=(const LargePages&) = delete;

  // The next block, 64-byte aligned, zeros. REQUIRES: all blocks' sizes, each rounded up to 64, within `bytes`.
  std::byte* take(std::size_t bytes);

 private:
  void* mapping_;
  std::size_t mapping_bytes_;
  std::byte* next_;
  std::byte* end_;
};

}  // namespace lacake::matmul
