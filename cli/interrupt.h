#pragma once

#include <atomic>

// Ctrl-C. The first ends the work at hand cleanly, a second one the process.
namespace lacake::cli {

constexpr int kInterruptedStatus = 130;  // 128 + SIGINT, as shells say it

// From here on the next Ctrl-C is only noted, and the one after it kills. Forgets what was noted.
void watch_interrupt();
bool interrupted();
// The same, for what looks at it from within the library. Lives as long as the program.
const std::atomic<bool>* interrupt_flag();

// From here on Ctrl-C leaves at once with kInterruptedStatus: for when the program waits for its user.
void leave_on_interrupt();

}  // namespace lacake::cli
