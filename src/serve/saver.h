#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lacake/store.h"

namespace lacake {

// Writes conversations to their store in a thread of its own, one after the other: a disk takes longer to be sure of
// something than an answer takes for many tokens.
class Saver {
 public:
  struct Done {
    std::uint64_t number = 0;  // of the call of save()
    bool kept = false;         // false: the store has what it had before
  };

  // `when_done` is called by the thread after each.
  explicit Saver(std::function<void()> when_done);
  // Writes what is left.
  ~Saver();
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;

  // Borrows the lease, which nobody else uses until it is done.
  void save(std::uint64_t number, Store::Lease& lease, std::string bytes);
  // Since the last call.
  std::vector<Done> take_done();
  // Returns when all is written.
  void finish();

 private:
  struct Task {
    std::uint64_t number;
    Store::Lease* lease;
    std::string bytes;
  };
  void run();

  const std::function<void()> when_done_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;  // the first is being written
  std::vector<Done> done_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace lacake
