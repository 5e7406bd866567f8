#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "lacake/scheduler.h"

namespace lacake::cli {

// Says on standard error that conversations are not kept: an answer tells its client, whose program may not look.
class StoreWatch {
 public:
  explicit StoreWatch(std::string folder) : folder_(std::move(folder)) {}

  // What became of a conversation that was answered. From any thread; never waits. The first failure is said, and the
  // first after one that was kept.
  void answered(const ServedCache& cache, const Scheduler& scheduler);

 private:
  const std::string folder_;
  std::mutex mutex_;
  bool failing_ = false;          // and that was said
  std::uint64_t n_failures_ = 0;  // so far
};

}  // namespace lacake::cli
