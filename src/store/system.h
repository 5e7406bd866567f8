#pragma once

#include <sys/stat.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace lacake {

// What the store asks of the system. Where it refuses, these throw Error(kInput) with the path and the reason.

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
  void lock(const std::string& path);      // waits
  bool try_lock(const std::string& path);  // false: it is somebody else's
  // Closing alone would leave the lock to a process that was forked meanwhile and has the same file open.
  void unlock();

 private:
  int fd_ = -1;
};

[[noreturn]] void fail_at(const std::string& path, const char* what, int error);

void make_private_folder(const std::string& path);
bool is_there(const std::string& path);
std::optional<std::uint64_t> file_bytes(const std::string& path);  // none: no such file
void rename_file(const std::string& from, const std::string& to);
void remove_file(const std::string& path);  // none is fine too
void sync_file(const std::string& path);
void sync_folder(const std::string& path);

// A file's time of modification, to the precision that the file system has.
void set_modified_now(const std::string& path);
std::chrono::system_clock::time_point modified(const struct stat& file);

}  // namespace lacake
