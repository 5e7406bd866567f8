#include "base/open_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "lacake/error.h"

namespace lacake {

void fail_at(const std::string& path, const char* what, int error) {
  throw Error({.subject = path, .found = fmt::format("cannot be {}: {}", what, std::strerror(error))});
}

OpenFile::OpenFile(const std::string& path, int flags)
    : fd_(uninterrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); })) {}

OpenFile::~OpenFile() {
  if (fd_ >= 0) ::close(fd_);
}

OpenFile::OpenFile(OpenFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

OpenFile& OpenFile::operator=(OpenFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

int OpenFile::lock() {
  return uninterrupted([&] { return ::flock(fd_, LOCK_EX); }) == 0 ? 0 : errno;
}

int OpenFile::try_lock() {
  return uninterrupted([&] { return ::flock(fd_, LOCK_EX | LOCK_NB); }) == 0 ? 0 : errno;
}

int OpenFile::sync() const {
  if (uninterrupted([&] { return ::fsync(fd_); }) == 0) return 0;
  return errno == EINVAL || errno == ENOTSUP ? 0 : errno;
}

void OpenFile::unlock() { (void)::flock(fd_, LOCK_UN); }

}  // namespace lacake
