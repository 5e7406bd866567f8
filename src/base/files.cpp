#include "base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "lacake/error.h"

namespace lacake {
namespace {

[[noreturn]] void fail(const std::string& name, const char* what, int error) {
  throw Error({.subject = name, .found = fmt::format("cannot be {}: {}", what, std::strerror(error))});
}

// What a system call returns, made again where a signal interrupted it.
template <class Call>
auto uninterrupted(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

int open_file(const std::string& path, int flags) {
  return uninterrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); });
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(open_file(path, flags)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }

 private:
  int fd_;
};

// Returns 0 or the errno. A sync that the file system does not know (a pipe, some mounts) is no failure.
int sync(int fd) {
  if (uninterrupted([&] { return ::fsync(fd); }) == 0) return 0;
  return errno == EINVAL || errno == ENOTSUP ? 0 : errno;
}

int write_and_sync(int fd, std::string_view bytes) {
  const int error = write_descriptor(fd, bytes);
  return error != 0 ? error : sync(fd);
}

// Returns 0 where the file is locked, and still the one of this name when the lock was had: the one who held it may
// have renamed it meanwhile. EWOULDBLOCK where it is another's, else the errno. Where the file system has no locks,
// writers of one file at the same time are not told apart.
int lock(int fd, const std::string& path) {
  if (uninterrupted([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) != 0 && errno != ENOSYS && errno != ENOTSUP &&
      errno != ENOLCK) {
    return errno;
  }
  struct stat held {
  }, named{};
  if (::fstat(fd, &held) != 0) return errno;
  if (::stat(path.c_str(), &named) != 0) return errno == ENOENT ? EWOULDBLOCK : errno;
  return held.st_dev == named.st_dev && held.st_ino == named.st_ino ? 0 : EWOULDBLOCK;
}

}  // namespace

std::string read_descriptor(int descriptor, const std::string& name) {
  constexpr std::size_t kStep = 1 << 16;
  std::string bytes;
  for (;;) {
    const std::size_t size = bytes.size();
    bytes.resize(size + kStep);
    const ssize_t got = ::read(descriptor, bytes.data() + size, kStep);
    const int error = errno;
    bytes.resize(size + (got > 0 ? (std::size_t)got : 0));
    if (got == 0) return bytes;
    if (got < 0 && error != EINTR) fail(name, "read", error);
  }
}

std::string read_file(const std::string& path) {
  const Descriptor file(path, O_RDONLY);
  if (file.get() < 0) fail(path, "opened", errno);
  return read_descriptor(file.get(), path);
}

std::optional<std::string> read_file_if_there(const std::string& path) {
  const Descriptor file(path, O_RDONLY);
  if (file.get() < 0 && errno == ENOENT) return std::nullopt;
  if (file.get() < 0) fail(path, "opened", errno);
  return read_descriptor(file.get(), path);
}

int write_descriptor(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = uninterrupted([&] { return ::write(descriptor, bytes.data(), bytes.size()); });
    if (written < 0) return errno;
    bytes.remove_prefix((std::size_t)written);
  }
  return 0;
}

void append_durably(const std::string& path, std::string_view lines) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_APPEND);
  struct stat before {};
  if (file.get() < 0 || ::fstat(file.get(), &before) != 0) fail(path, "opened", errno);
  const int error = write_and_sync(file.get(), lines);
  if (error == 0) return;
  // What was written of them goes again. A file that cannot be cut ends in half a line, which readers drop.
  (void)!::ftruncate(file.get(), before.st_size);
  fail(path, "written", error);
}

void replace_durably(const std::string& path, std::string_view bytes) {
  Replacement file(path);
  file.write(bytes);
  file.commit();
}

Replacement::Replacement(std::string path) : path_(std::move(path)) {
  constexpr int kMostWriters = 1000;
  for (int i = 0; i < kMostWriters; ++i) {
    beside_ = i == 0 ? path_ + ".tmp" : fmt::format("{}.{}.tmp", path_, i);
    fd_ = open_file(beside_, O_WRONLY | O_CREAT | O_NOFOLLOW);
    if (fd_ < 0) fail(path_, "written", errno);
    int error = lock(fd_, beside_);
    if (error == 0 && uninterrupted([&] { return ::ftruncate(fd_, 0); }) != 0) error = errno;
    if (error == 0) return;
    ::close(std::exchange(fd_, -1));
    if (error != EWOULDBLOCK) fail(path_, "written", error);
  }
  fail(path_, "written", EBUSY);
}

Replacement::~Replacement() {
  if (fd_ < 0) return;
  ::unlink(beside_.c_str());
  ::close(fd_);
}

void Replacement::write(std::string_view bytes) {
  if (const int error = write_descriptor(fd_, bytes)) fail(path_, "written", error);
}

void Replacement::commit() {
  if (const int error = sync(fd_)) fail(path_, "written", error);
  if (uninterrupted([&] { return std::rename(beside_.c_str(), path_.c_str()); }) != 0) fail(path_, "written", errno);
  // Some file systems say only here that a disk is full, but what was synced is there.
  ::close(std::exchange(fd_, -1));
  const std::filesystem::path folder = std::filesystem::path(path_).parent_path();
  const Descriptor entry(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  const int error = entry.get() < 0 ? errno : sync(entry.get());
  if (error != 0) fail(path_, "written for good: its folder cannot be synced", error);
}

}  // namespace lacake
