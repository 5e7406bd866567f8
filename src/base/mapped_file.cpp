#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "base/open_file.h"
#include "lacake/error.h"

namespace lacake {

MappedFile::MappedFile(const std::string& path, const std::string& expected) {
  // Without O_NONBLOCK a pipe that nobody writes to would be waited for.
  const OpenFile file(path, O_RDONLY | O_NONBLOCK);
  struct stat info {};
  if (file.get() < 0 || ::fstat(file.get(), &info) != 0) fail_at(path, "opened", errno);
  if (!S_ISREG(info.st_mode)) {
    throw Error({.subject = path,
                 .expected = expected,
                 .found = S_ISDIR(info.st_mode)    ? "a folder"
                          : S_ISFIFO(info.st_mode) ? "a pipe, which cannot be mapped into memory"
                                                   : "no regular file"});
  }
  bytes_ = (std::size_t)info.st_size;
  if (bytes_ == 0) return;
  void* mapped = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file.get(), 0);
  if (mapped == MAP_FAILED) fail_at(path, "mapped into memory", errno);
  data_ = (std::byte*)mapped;
}

MappedFile::MappedFile(Copy, std::string_view bytes) : bytes_(bytes.size()) {
  if (bytes_ == 0) return;
  void* mapped = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  data_ = (std::byte*)mapped;
  std::memcpy(data_, bytes.data(), bytes_);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

}  // namespace lacake
