#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace lacake {

// A thread for what would hold up those that compute or send, one piece of work after the other.
class Worker {
 public:
  Worker() : thread_([this] { run(); }) {}
  // Does what is left.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // From any thread. The work may not throw.
  void add(std::function<void()> work);
  // Returns when all is done.
  void finish();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;  // the first is being done
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace lacake
