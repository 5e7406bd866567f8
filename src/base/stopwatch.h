#pragma once

#include <chrono>

namespace lacake {

// Time that passes from when it was made, or last restarted, by a clock that nobody sets.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  double ms() const { return seconds() * 1e3; }

  // Returns the milliseconds so far and starts anew at the same moment: laps leave no gap between them.
  double restart_ms() {
    const Clock::time_point now = Clock::now();
    const double passed = std::chrono::duration<double, std::milli>(now - begin_).count();
    begin_ = now;
    return passed;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace lacake
