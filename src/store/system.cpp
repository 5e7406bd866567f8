#include "store/system.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace lacake {
namespace {

void sync(const std::string& path, int flags) {
  const OpenFile file(path, flags);
  if (file.get() < 0) fail_at(path, "opened", errno);
  if (const int error = file.sync()) fail_at(path, "written", error);
}

// Durable, so that what is saved in it is found.
void make_folder(const std::filesystem::path& path, mode_t mode) {
  const std::filesystem::path parent = path.parent_path();
  const auto make = [&] { return ::mkdir(path.c_str(), mode) == 0 ? 0 : errno; };
  int error = make();
  if (error == ENOENT && !parent.empty()) {
    make_folder(parent, 0777);
    error = make();
  }
  if (error == EEXIST) return;
  if (error != 0) fail_at(path.string(), "made", error);
  sync_folder(parent.empty() ? "." : parent.string());
}

}  // namespace

void lock(OpenFile& file, const std::string& path) {
  if (const int error = file.lock()) fail_at(path, "locked", error);
}

bool try_lock(OpenFile& file, const std::string& path) {
  const int error = file.try_lock();
  if (error != 0 && error != EWOULDBLOCK) fail_at(path, "locked", error);
  return error == 0;
}

void make_private_folder(const std::string& path) {
  const std::filesystem::path folder(path);
  make_folder(folder.has_filename() ? folder : folder.parent_path(), 0700);
}

bool is_there(const std::string& path) { return file_bytes(path).has_value(); }

std::optional<std::uint64_t> file_bytes(const std::string& path) {
  struct stat file {};
  if (::stat(path.c_str(), &file) == 0) return (std::uint64_t)file.st_size;
  if (errno != ENOENT) fail_at(path, "looked at", errno);
  return std::nullopt;
}

void rename_file(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) fail_at(to, "written", errno);
}

void remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_at(path, "removed", errno);
}

void sync_file(const std::string& path) { sync(path, O_RDONLY); }

void sync_folder(const std::string& path) { sync(path, O_RDONLY | O_DIRECTORY); }

void set_modified_now(const std::string& path) {
  // The clock's own time: what the system would take for "now" stands still for milliseconds.
  struct timespec times[2] = {};
  times[0].tv_nsec = UTIME_OMIT;
  if (::clock_gettime(CLOCK_REALTIME, &times[1]) != 0 || ::utimensat(AT_FDCWD, path.c_str(), times, 0) != 0) {
    fail_at(path, "written", errno);
  }
}

std::chrono::system_clock::time_point modified(const struct stat& file) {
#ifdef __APPLE__
  const struct timespec& time = file.st_mtimespec;
#else
  const struct timespec& time = file.st_mtim;
#endif
  const auto since = std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  return std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(since));
}

}  // namespace lacake
