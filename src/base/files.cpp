#include "base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "lacake/error.h"

namespace lacake {
namespace {

[[noreturn]] void fail(const std::string& name, const char* what, int error) {
  throw Error({.subject = name, .found = fmt::format("cannot be {}: {}", what, std::strerror(error))});
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  // Closes now; returns 0 or the errno. Some file systems say only here that a disk is full.
  int close() {
    const int fd = fd_;
    fd_ = -1;
    return ::close(fd) == 0 ? 0 : errno;
  }

 private:
  int fd_;
};

// Returns 0 or the errno. A sync that the file system does not know (a pipe, some mounts) is no failure.
int write_and_sync(int fd, std::string_view bytes) {
  if (const int error = write_descriptor(fd, bytes)) return error;
  return ::fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
}

// A name that no other thread or process writes at the same time.
std::string name_beside(const std::string& path) {
  static std::atomic<unsigned> count = 0;
  return fmt::format("{}.{}-{}.tmp", path, ::getpid(), count++);
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
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
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
  const std::string beside = name_beside(path);
  Descriptor file(beside, O_WRONLY | O_CREAT | O_EXCL);
  if (file.get() < 0) fail(path, "written", errno);
  int error = write_and_sync(file.get(), bytes);
  if (const int closing = file.close(); error == 0) error = closing;
  if (error == 0 && std::rename(beside.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(beside.c_str());
    fail(path, "written", error);
  }
  // The folder's entry too; a file system without that offers no more.
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const Descriptor entry(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  if (entry.get() >= 0) (void)::fsync(entry.get());
}

}  // namespace lacake
