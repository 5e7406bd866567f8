#include "interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace lacake::cli {
namespace {

// Lock-free, so a signal handler may touch it.
std::atomic<bool> noted = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void handle(void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
}

}  // namespace

void watch_interrupt() {
  noted = false;
  // SA_RESETHAND: the second Ctrl-C meets the default action.
  handle([](int) { noted = true; }, SA_RESTART | (int)SA_RESETHAND);
}

bool interrupted() { return noted; }
const std::atomic<bool>* interrupt_flag() { return &noted; }

void leave_on_interrupt() {
  handle(
      [](int) {
        // A new line after the terminal's ^C. Nothing can be done if it fails.
        if (isatty(STDERR_FILENO) != 0) (void)!write(STDERR_FILENO, "\n", 1);
        _exit(kInterruptedStatus);
      },
      0);
}

}  // namespace lacake::cli
