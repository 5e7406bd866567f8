#include "serve/store_watch.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "output.h"

namespace lacake::cli {
namespace {

// A reader that is slow must not hold the answers up.
bool can_be_said() {
  pollfd ready{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0;
}

}  // namespace

void StoreWatch::answered(const ServedCache& cache, const Scheduler& scheduler) {
  if (!cache.stored) return;
  const std::lock_guard lock(mutex_);
  if (*cache.stored) {
    failing_ = false;
    return;
  }
  // One that belongs to another server is kept there, and counts as no failure.
  const std::uint64_t n_failures = scheduler.status().n_store_failures;
  if (n_failures == n_failures_) return;
  n_failures_ = n_failures;
  if (failing_ || !can_be_said()) return;
  failing_ = true;
  warn(fmt::format(
      "{}: cannot be written, or has no room; conversation {} and those after it are answered, and not kept", folder_,
      cache.id));
}

}  // namespace lacake::cli
