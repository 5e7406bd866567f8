#pragma once

// Memory for tests of the cache: the process's own, moved as the host does it.

#include <cstring>

#include "cache/kv_pool.h"

namespace lacake {

class TestMover final : public RowMover {
 public:
  void move(std::span<const RowRun> runs) override {
    for (const RowRun& run : runs) {
      std::memmove(run.to, run.from, run.bytes);
      moved_bytes += run.bytes;
    }
  }
  std::uint64_t moved_bytes = 0;
};

struct TestMemory {
  explicit TestMemory(std::uint64_t reserved = 0) : pool(mover, ggml_backend_cpu_buffer_type(), reserved) {}
  TestMover mover;
  KvPool pool;
};

// One without a reservation, for tests that do not care.
inline TestMemory& test_memory() {
  static TestMemory memory;
  return memory;
}

}  // namespace lacake
