#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/worker.h"
#include "lacake/error.h"
#include "lacake/store.h"

namespace lacake {

// Writes conversations to their store in a thread of its own, one after the other: a disk takes longer to be sure of
// something than an answer takes for many tokens.
class Saver {
 public:
  struct Done {
    std::uint64_t number = 0;           // of the call of save()
    std::optional<Error> failure = {};  // the store has what it had before, and this is why
  };

  // `when_done` is called by the thread after each.
  explicit Saver(std::function<void()> when_done) : when_done_(std::move(when_done)) {}

  // Borrows the lease, which nobody else uses until it is done.
  void save(std::uint64_t number, Store::Lease& lease, std::string bytes);
  // Since the last call.
  std::vector<Done> take_done();
  // Returns when all is written.
  void finish() { worker_.finish(); }

 private:
  const std::function<void()> when_done_;
  std::mutex mutex_;
  std::vector<Done> done_;
  Worker worker_;  // borrows what stands above; writes what is left when this goes
};

}  // namespace lacake
