#pragma once

#include <cerrno>
#include <string>

namespace lacake {

// What a system call returns, made again where a signal interrupted it.
template <class Call>
auto uninterrupted(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

// Throws Error(kInput): "PATH: cannot be WHAT: the system's reason".
[[noreturn]] void fail_at(const std::string& path, const char* what, int error);

// An open file, and the lock on it if there is one: flock()'s, which belongs to what was opened and not to the process,
// so that threads exclude each other as processes do, and which the system gives back when the process ends.
class OpenFile {
 public:
  OpenFile() = default;
  // Opens; a failure is left in errno, and get() is negative.
  OpenFile(const std::string& path, int flags);
  ~OpenFile();
  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&& other) noexcept;

  int get() const { return fd_; }
  // These return 0 or the errno.
  int lock();      // waits
  int try_lock();  // EWOULDBLOCK: it is somebody else's
  // What was written is on disk. A sync that the file system does not know (of a pipe, on some mounts) is no failure.
  int sync() const;
  // Closing alone would leave the lock to a process that was forked meanwhile and has the same file open.
  void unlock();

 private:
  int fd_ = -1;
};

}  // namespace lacake
