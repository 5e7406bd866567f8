#include "eval/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "lacake/error.h"

namespace lacake::eval {
namespace {

[[noreturn]] void fail(const std::string& path, const char* what, int error) {
  throw Error(Error::Kind::kInput, fmt::format("{}: cannot be {}: {}", path, what, std::strerror(error)));
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

 private:
  int fd_;
};

// 0, or the errno of the failure. A flush that the file system does not know (a pipe, some mounts) is no failure.
int write_and_flush(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix((std::size_t)written);
  }
  return ::fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
}

}  // namespace

std::string read_if_there(const std::string& path) {
  const Descriptor file(path, O_RDONLY);
  if (file.get() < 0 && errno == ENOENT) return "";
  if (file.get() < 0) fail(path, "opened", errno);
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path, "read", errno);
    if (got == 0) return text;
    text.append(buffer, (std::size_t)got);
  }
}

void append_durably(const std::string& path, std::string_view lines) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_APPEND);
  struct stat before {};
  if (file.get() < 0 || ::fstat(file.get(), &before) != 0) fail(path, "opened", errno);
  const int error = write_and_flush(file.get(), lines);
  if (error == 0) return;
  // What was written of them goes again. A file that cannot be cut ends in half a line, which readers drop.
  (void)!::ftruncate(file.get(), before.st_size);
  fail(path, "written", error);
}

void replace_durably(const std::string& path, std::string_view bytes) {
  const std::string beside = fmt::format("{}.{}.tmp", path, ::getpid());
  int error = 0;
  {
    const Descriptor file(beside, O_WRONLY | O_CREAT | O_TRUNC);
    if (file.get() < 0) fail(path, "written", errno);
    error = write_and_flush(file.get(), bytes);
  }
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

}  // namespace lacake::eval
