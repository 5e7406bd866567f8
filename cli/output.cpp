#include "output.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/files.h"
#include "lacake/error.h"

namespace lacake::cli {
void write_output(std::string_view text) {
  const int error = write_descriptor(STDOUT_FILENO, text);
  if (error == EPIPE) throw OutputClosed{};
  if (error != 0) {
    throw Error({.subject = "standard output", .found = fmt::format("cannot be written: {}", std::strerror(error))});
  }
}

bool output_closed() {
  pollfd state = {.fd = STDOUT_FILENO, .events = 0, .revents = 0};
  return ::poll(&state, 1, 0) == 1 && (state.revents & POLLERR) != 0;
}

std::string unread_line(const std::string& path) {
  return fmt::format("nobody read the whole answer: {} stays as it was", path);
}

void warn(const std::string& line) {
  if (!line.empty()) std::fputs((line + "\n").c_str(), stderr);
}

void require_writable(const std::string& path, std::string_view flag) {
  const auto fail = [&](const std::string& what) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = std::string(flag),
                 .expected = "a file that can be written",
                 .found = fmt::format("{}: {}", path, what)});
  };
  struct stat info {};
  if (path.empty()) fail("expected a file name");
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) fail("exists and is not a regular file");
  std::string file;
  try {
    file = file_to_replace(path);
  } catch (const Error& error) {
    fail(error.fields().found);
  }
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  const std::string where = folder.empty() ? "." : folder.string();
  if (::access(where.c_str(), W_OK | X_OK) != 0) fail(fmt::format("folder {}: {}", where, std::strerror(errno)));
}

}  // namespace lacake::cli
