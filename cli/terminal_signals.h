#pragma once

#include <signal.h>

#include <array>

namespace lacake::cli {

// While it lives, signals that concern an edited terminal interrupt nothing and are handed out one by one: SIGINT,
// SIGTERM, SIGHUP, SIGTSTP (Ctrl-Z) and SIGWINCH (another size). One at a time.
class TerminalSignals {
 public:
  TerminalSignals();
  ~TerminalSignals();
  TerminalSignals(const TerminalSignals&) = delete;
  TerminalSignals& operator=(const TerminalSignals&) = delete;

  // Waits until there is something to read from `fd`, and returns 0, or until one of the signals has come.
  int wait(int fd) const;

  // What the signal would have done without this: it ends or stops the process. Returns when a stopped one goes on.
  void act_as_before(int signal);

 private:
  static constexpr std::array kCaught = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH};
  std::array<struct sigaction, kCaught.size()> before_{};
};

}  // namespace lacake::cli
