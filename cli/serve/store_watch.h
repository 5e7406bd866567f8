#pragma once

#include <mutex>

#include "lacake/scheduler.h"

namespace lacake::cli {

// Says on standard error that conversations are not kept: an answer tells its client, whose program may not look.
class StoreWatch {
 public:
  // What became of a conversation that was answered. From any thread; never waits. The first failure is said with its
  // cause, and the first after one that was kept.
  void answered(const ServedCache& cache);

 private:
  std::mutex mutex_;
  bool failing_ = false;  // and that was said
};

}  // namespace lacake::cli
