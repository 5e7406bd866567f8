#include "serve/saver.h"

#include <exception>
#include <utility>

#include "base/files.h"

namespace lacake {

void Saver::save(std::uint64_t number, Store::Lease& lease, std::string bytes) {
  worker_.add([this, number, &lease, bytes = std::move(bytes)] {
    std::optional<Error> failure;
    try {
      lease.save(bytes.size(), [&](const std::string& path) { replace_durably(path, bytes); });
    } catch (const Error& error) {  // a full disk, say: the conversation is in memory still
      failure = error;
    } catch (const std::exception& error) {
      failure = Error({.kind = Error::Kind::kState, .subject = "store", .found = error.what()});
    }
    {
      const std::lock_guard lock(mutex_);
      done_.push_back({number, std::move(failure)});
    }
    when_done_();
  });
}

std::vector<Saver::Done> Saver::take_done() {
  const std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

}  // namespace lacake
