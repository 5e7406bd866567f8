#include "terminal_signals.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/open_file.h"
#include "lacake/error.h"

namespace lacake::cli {
namespace {

// What the handler writes to and wait() reads from. A signal may meet any thread, so that waiting cannot rely on being
// interrupted. Made once, never closed: a handler may be at work when nobody waits any more.
int ends[2] = {-1, -1};

void hand_on(int signal) {
  const int error = errno;
  const auto number = (unsigned char)signal;
  (void)!::write(ends[1], &number, 1);  // full: as many wait to be handed out
  errno = error;
}

void open_pipe() {
  if (ends[0] >= 0) return;
  if (::pipe(ends) != 0) {
    throw Error({.subject = "terminal", .found = fmt::format("no pipe for its signals: {}", std::strerror(errno))});
  }
  for (const int end : ends) {
    ::fcntl(end, F_SETFD, FD_CLOEXEC);
    ::fcntl(end, F_SETFL, O_NONBLOCK);
  }
}

struct sigaction calls(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  return action;
}

}  // namespace

TerminalSignals::TerminalSignals() {
  open_pipe();
  const struct sigaction action = calls(hand_on);
  for (std::size_t i = 0; i < kCaught.size(); ++i) ::sigaction(kCaught[i], &action, &before_[i]);
}

TerminalSignals::~TerminalSignals() {
  for (std::size_t i = 0; i < kCaught.size(); ++i) ::sigaction(kCaught[i], &before_[i], nullptr);
}

int TerminalSignals::wait(int fd) const {
  pollfd watched[2] = {{.fd = ends[0], .events = POLLIN, .revents = 0}, {.fd = fd, .events = POLLIN, .revents = 0}};
  uninterrupted([&] { return ::poll(watched, 2, -1); });
  unsigned char number = 0;
  return ::read(ends[0], &number, 1) == 1 ? number : 0;
}

void TerminalSignals::act_as_before(int signal) {
  for (std::size_t i = 0; i < kCaught.size(); ++i) {
    if (kCaught[i] != signal) continue;
    const struct sigaction ours = calls(hand_on);
    ::sigaction(signal, &before_[i], nullptr);
    ::raise(signal);
    ::sigaction(signal, &ours, nullptr);
  }
}

}  // namespace lacake::cli
