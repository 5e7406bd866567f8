#include "base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "base/open_file.h"
#include "lacake/error.h"

namespace lacake {
namespace {

int write_and_sync(const OpenFile& file, std::string_view bytes) {
  const int error = write_descriptor(file.get(), bytes);
  return error != 0 ? error : file.sync();
}

// Returns 0 where the file is locked, and still the one of this name when the lock was had: the one who held it may
// have renamed it meanwhile. EWOULDBLOCK where it is another's, else the errno. Where the file system has no locks,
// writers of one file at the same time are not told apart.
int lock_as(OpenFile& file, const std::string& path) {
  const int error = file.try_lock();
  if (error != 0 && error != ENOSYS && error != ENOTSUP && error != ENOLCK) return error;
  struct stat held {
  }, named{};
  if (::fstat(file.get(), &held) != 0) return errno;
  if (::stat(path.c_str(), &named) != 0) return errno == ENOENT ? EWOULDBLOCK : errno;
  return held.st_dev == named.st_dev && held.st_ino == named.st_ino ? 0 : EWOULDBLOCK;
}

constexpr mode_t kRights = 0777;

std::optional<struct stat> facts_of(const std::string& path) {
  struct stat facts {};
  return ::stat(path.c_str(), &facts) == 0 ? std::optional(facts) : std::nullopt;
}

std::string behind_links(const std::string& path) {
  constexpr int kMostLinks = 40;  // Linux's own bound
  std::filesystem::path at = path;
  for (int i = 0; i < kMostLinks; ++i) {
    std::error_code failure;
    if (!std::filesystem::is_symlink(at, failure)) return at.string();
    const std::filesystem::path folder = at.has_parent_path() ? at.parent_path() : ".";
    if (std::filesystem::canonical(folder, failure).string().starts_with("/proc/")) {
      throw Error({.subject = path, .found = "cannot be written: a link of /proc leads to no name"});
    }
    at = folder / std::filesystem::read_symlink(at, failure);
    if (failure) fail_at(path, "written", failure.value());
  }
  fail_at(path, "written", ELOOP);
}

// Who may read the file that goes may read the one that comes, and nobody else. What belongs to another owner can be
// given back to him by few, and is better written than lost. Returns 0 or the errno.
int take_rights(const OpenFile& file, const struct stat& of) {
  struct stat own {};
  if (::fstat(file.get(), &own) != 0) return errno;
  if (own.st_uid != of.st_uid || own.st_gid != of.st_gid) (void)!::fchown(file.get(), of.st_uid, of.st_gid);
  // Asked for only where it changes something: some file systems know no rights.
  if ((own.st_mode & kRights) == (of.st_mode & kRights)) return 0;
  return ::fchmod(file.get(), of.st_mode & kRights) == 0 ? 0 : errno;
}

// With no more rights than its writer's from its first moment on.
int make_private(const std::string& path) {
  const int fd = uninterrupted(
      [&] { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR); });
  if (fd < 0) return errno;
  ::close(fd);
  return 0;
}

constexpr int kMostWriters = 1000;  // of one file at once

// Of what is written meanwhile beside a file: the first of its names, and those of other writers at once.
std::string name_beside(const std::string& file, int writer) {
  return writer == 0 ? file + ".tmp" : fmt::format("{}.{}.tmp", file, writer);
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
    if (got < 0 && error != EINTR) fail_at(name, "read", error);
  }
}

std::string read_file(const std::string& path) {
  const OpenFile file(path, O_RDONLY);
  if (file.get() < 0) fail_at(path, "opened", errno);
  return read_descriptor(file.get(), path);
}

std::optional<std::string> read_file_if_there(const std::string& path) {
  const OpenFile file(path, O_RDONLY);
  if (file.get() < 0 && errno == ENOENT) return std::nullopt;
  if (file.get() < 0) fail_at(path, "opened", errno);
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
  const OpenFile file(path, O_WRONLY | O_CREAT | O_APPEND);
  struct stat before {};
  if (file.get() < 0 || ::fstat(file.get(), &before) != 0) fail_at(path, "opened", errno);
  const int error = write_and_sync(file, lines);
  if (error == 0) return;
  // What was written of them goes again. A file that cannot be cut ends in half a line, which readers drop.
  (void)!::ftruncate(file.get(), before.st_size);
  fail_at(path, "written", error);
}

std::string file_to_replace(const std::string& path) {
  std::string file = behind_links(path);
  // Asked before anything is computed for the file.
  struct stat beside {};
  if (::lstat(name_beside(file, kMostWriters - 1).c_str(), &beside) != 0 && errno == ENAMETOOLONG) {
    fail_at(path, "written", ENAMETOOLONG);
  }
  const std::optional<struct stat> facts = facts_of(file);
  if (!facts) return file;
  if (S_ISDIR(facts->st_mode)) fail_at(path, "written", EISDIR);
  if (!S_ISREG(facts->st_mode)) throw Error({.subject = path, .found = "cannot be written: it is not a regular file"});
  if (::access(file.c_str(), W_OK) != 0) fail_at(path, "written", errno);
  return file;
}

bool is_same_file(const std::string& path, const std::string& other) {
  const std::optional<struct stat> facts = facts_of(path), of_other = facts_of(other);
  if (facts && of_other) return facts->st_dev == of_other->st_dev && facts->st_ino == of_other->st_ino;
  if (facts || of_other) return false;
  std::error_code failure;
  const auto name = [&](const std::string& of) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(behind_links(of)), failure);
  };
  const std::filesystem::path made = name(path);
  return !failure && made == name(other) && !failure;
}

std::optional<FileMark> file_mark(const std::string& path) {
  const std::optional<struct stat> facts = facts_of(path);
  std::error_code failure;
  const std::filesystem::file_time_type written = std::filesystem::last_write_time(path, failure);
  if (!facts || failure) return {};
  return FileMark{facts->st_dev, facts->st_ino, (std::uint64_t)facts->st_size, written};
}

void replace_durably(const std::string& path, std::string_view bytes) {
  Replacement file(path);
  file.write(bytes);
  file.commit();
}

Replacement::Replacement(std::string path) : path_(std::move(path)), file_path_(file_to_replace(path_)) {
  const std::optional<struct stat> old = facts_of(file_path_);
  for (int i = 0; i < kMostWriters; ++i) {
    beside_ = name_beside(file_path_, i);
    if (const int error = old ? make_private(beside_) : 0) fail_at(path_, "written", error);
    OpenFile file(beside_, O_WRONLY | O_CREAT | O_NOFOLLOW);
    if (file.get() < 0) fail_at(path_, "written", errno);
    int error = lock_as(file, beside_);
    if (error == 0 && uninterrupted([&] { return ::ftruncate(file.get(), 0); }) != 0) error = errno;
    if (error == 0 && old) error = take_rights(file, *old);
    if (error == 0) {
      file_ = std::move(file);
      return;
    }
    if (error != EWOULDBLOCK) fail_at(path_, "written", error);
  }
  fail_at(path_, "written", EBUSY);
}

Replacement::~Replacement() {
  if (file_.get() >= 0) ::unlink(beside_.c_str());
}

void Replacement::write(std::string_view bytes) {
  if (const int error = write_descriptor(file_.get(), bytes)) fail_at(path_, "written", error);
}

void Replacement::commit() {
  if (const int error = file_.sync()) fail_at(path_, "written", error);
  if (uninterrupted([&] { return std::rename(beside_.c_str(), file_path_.c_str()); }) != 0) {
    fail_at(path_, "written", errno);
  }
  // Some file systems say only when it is closed that a disk is full, but what was synced is there.
  file_ = OpenFile();
  const std::filesystem::path folder = std::filesystem::path(file_path_).parent_path();
  const OpenFile entry(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  const int error = entry.get() < 0 ? errno : entry.sync();
  if (error != 0) fail_at(path_, "written for good: its folder cannot be synced", error);
}

}  // namespace lacake
