#include "base/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lacake/error.h"

namespace lacake {

MappedFile::MappedFile(const std::string& path, const std::string& expected) {
  // Without O_NONBLOCK a pipe that nobody writes to would be waited for.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  const auto fail = [&](const char* what) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    throw Error({.subject = path, .found = fmt::format("cannot be {}: {}", what, std::strerror(error))});
  };
  if (fd < 0) fail("opened");
  struct stat info {};
  if (::fstat(fd, &info) != 0) fail("opened");
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    throw Error({.subject = path,
                 .expected = expected,
                 .found = S_ISDIR(info.st_mode)    ? "a folder"
                          : S_ISFIFO(info.st_mode) ? "a pipe, which cannot be mapped into memory"
                                                   : "no regular file"});
  }
  bytes_ = (std::size_t)info.st_size;
  if (bytes_ > 0) {
    void* mapped = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) fail("mapped into memory");
    data_ = (std::byte*)mapped;
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

}  // namespace lacake
