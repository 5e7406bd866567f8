#include "output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "lacake/error.h"

namespace lacake::cli {
namespace {

// 0, or the errno of the failure.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace

void write_output(std::string_view text) {
  const int error = write_all(STDOUT_FILENO, text);
  if (error == EPIPE) throw OutputClosed{};
  if (error != 0) {
    throw Error(Error::Kind::kInput, fmt::format("standard output: cannot be written: {}", std::strerror(error)));
  }
}

bool output_closed() {
  pollfd state = {.fd = STDOUT_FILENO, .events = 0, .revents = 0};
  return ::poll(&state, 1, 0) == 1 && (state.revents & POLLERR) != 0;
}

void warn(const std::string& line) {
  if (!line.empty()) std::fputs((line + "\n").c_str(), stderr);
}

void require_writable(const std::string& path, std::string_view flag) {
  const auto fail = [&](const std::string& what) {
    throw Error(Error::Kind::kUsage, fmt::format("{}: {}: {}", flag, path, what));
  };
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  struct stat info {};
  if (path.empty()) fail("expected a file name");
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) fail("exists and is not a regular file");
  const std::string where = folder.empty() ? "." : folder.string();
  if (::access(where.c_str(), W_OK | X_OK) != 0) fail(fmt::format("folder {}: {}", where, std::strerror(errno)));
}

void write_file(const std::string& path, std::string_view bytes) {
  const std::string beside = fmt::format("{}.{}.tmp", path, ::getpid());
  const auto fail = [&](int error) {
    ::unlink(beside.c_str());
    throw Error(Error::Kind::kInput, fmt::format("{}: cannot be written: {}", path, std::strerror(error)));
  };
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) fail(errno);
  const int error = write_all(fd, bytes);
  if (::close(fd) != 0 || error != 0) fail(error != 0 ? error : errno);
  if (std::rename(beside.c_str(), path.c_str()) != 0) fail(errno);
}

}  // namespace lacake::cli
