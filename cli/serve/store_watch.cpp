#include "serve/store_watch.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "output.h"

namespace lacake::cli {
namespace {

// A reader that is slow must not hold the answers up.
bool can_be_said() {
  pollfd ready{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0;
}

}  // namespace

void StoreWatch::answered(const ServedCache& cache) {
  if (!cache.stored) return;
  const std::lock_guard lock(mutex_);
  if (*cache.stored) {
    failing_ = false;
    return;
  }
  // One that belongs to another server is kept there, and counts as no failure.
  if (!cache.store_failure || failing_ || !can_be_said()) return;
  failing_ = true;
  const std::string cause = cache.store_failure->with_names(
      [](std::string_view setting) { return setting == "most_bytes" ? std::string("--store-size") : std::string(); });
  warn(fmt::format("{}; conversation {} and those after it are answered, and not kept", cause, cache.id));
}

}  // namespace lacake::cli
