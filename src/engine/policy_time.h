#pragma once

#include <chrono>

namespace lacake {

// How long policies were at work between graphs, those of all sessions together: what attention recorded put in order,
// decisions, rows moved. Not what attention takes longer to record it.
class PolicyTime {
 public:
  double seconds() const { return std::chrono::duration<double>(total_).count(); }

  // Counts from here to the end of the block.
  class Running {
   public:
    explicit Running(PolicyTime& time) : time_(time), begin_(Clock::now()) {}
    ~Running() { time_.total_ += Clock::now() - begin_; }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

   private:
    PolicyTime& time_;
    std::chrono::steady_clock::time_point begin_;
  };

 private:
  using Clock = std::chrono::steady_clock;
  Clock::duration total_{};
};

}  // namespace lacake
