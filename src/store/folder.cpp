#include "store/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <tuple>

#include "lacake/bytes.h"
#include "lacake/error.h"
#include "store/names.h"

namespace lacake {
namespace {

struct File {
  FileName name;
  std::string path;
  struct stat info = {};  // of what has bytes
};

// A writer may rename what it is writing while we read: such a file can be missing here or be there twice. Nothing
// hangs on it, because what the writer reserved is counted.
std::vector<File> files_of(const FolderLock& lock) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(lock.folder().c_str()), ::closedir);
  if (!folder) fail_at(lock.folder(), "opened", errno);
  std::vector<File> files;
  for (;;) {
    errno = 0;
    const struct dirent* entry = ::readdir(folder.get());
    if (entry == nullptr && errno != 0) fail_at(lock.folder(), "read", errno);
    if (entry == nullptr) return files;
    File file{parse_file_name(entry->d_name), lock.path(entry->d_name)};
    const bool is_empty = file.name.kind == FileName::Kind::kEpoch || file.name.kind == FileName::Kind::kLease;
    if (!is_empty) {
      if (::fstatat(::dirfd(folder.get()), entry->d_name, &file.info, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        fail_at(file.path, "looked at", errno);
      }
      if (!S_ISREG(file.info.st_mode)) continue;
    }
    files.push_back(std::move(file));
  }
}

// A lease's owner has its file locked as long as it lives.
bool owner_lives(const std::string& path) {
  OpenFile file(path, O_RDWR);
  if (file.get() < 0) fail_at(path, "opened", errno);
  return !try_lock(file, path);
}

std::uint64_t bytes_of(const struct stat& info) { return (std::uint64_t)info.st_size; }

}  // namespace

FolderLock::FolderLock(const std::string& folder) : folder_(folder) {
  const std::string path = folder_ + "/lock";
  // If somebody removed the file while we waited for it, others now wait for another one.
  for (struct stat here{}, there{};;) {
    file_ = OpenFile(path, O_RDWR | O_CREAT);
    if (file_.get() < 0) fail_at(path, "opened", errno);
    lock(file_, path);
    if (::fstat(file_.get(), &here) == 0 && ::stat(path.c_str(), &there) == 0 && here.st_ino == there.st_ino) return;
  }
}

FolderLock::~FolderLock() { file_.unlock(); }

bool FolderContents::is_owned(const std::string& name) const {
  const auto lease = leases.lower_bound({name, 0});
  return lease != leases.end() && lease->first.first == name;
}

FolderContents contents_of(const FolderLock& lock) {
  const std::vector<File> files = files_of(lock);
  FolderContents contents;
  for (const File& file : files) {
    if (file.name.kind != FileName::Kind::kLease) continue;
    if (owner_lives(file.path)) {
      contents.leases[{file.name.name, file.name.epoch}].reserved = file.name.reserved;
    } else {
      remove_file(file.path);
    }
  }
  for (const File& file : files) {
    const std::uint64_t bytes = bytes_of(file.info);
    switch (file.name.kind) {
      case FileName::Kind::kLease:
        break;
      case FileName::Kind::kEpoch:
        contents.epoch = file.name.epoch;
        break;
      case FileName::Kind::kOther:
        contents.bytes += bytes;
        break;
      case FileName::Kind::kSaved:
        contents.bytes += bytes;
        contents.saved.push_back({file.name.name, bytes, modified(file.info), contents.is_owned(file.name.name)});
        break;
      case FileName::Kind::kNew:
        if (const auto lease = contents.leases.find({file.name.name, file.name.epoch});
            lease != contents.leases.end()) {
          lease->second.bytes += bytes;
          lease->second.paths.push_back(file.path);
        } else {
          remove_file(file.path);
        }
        break;
    }
  }
  for (const auto& [key, writing] : contents.leases) contents.bytes += writing.counted();
  std::sort(contents.saved.begin(), contents.saved.end(),
            [](const auto& a, const auto& b) { return std::tie(a.last_use, a.name) < std::tie(b.last_use, b.name); });
  return contents;
}

// Not synced here: a save syncs the folder before it returns, and what a machine that stops before that brings back is
// dropped when the folder is opened.
void drop_oldest(const FolderLock& lock, FolderContents& contents, std::uint64_t most) {
  for (const FolderContents::Saved& saved : contents.saved) {
    if (contents.bytes <= most) return;
    if (saved.owned) continue;
    remove_file(lock.path(saved_file(saved.name)));
    contents.bytes -= saved.bytes;
  }
}

void make_room(const FolderLock& lock, FolderContents& contents, std::uint64_t most, std::uint64_t needed) {
  std::uint64_t kept = contents.bytes;
  for (const FolderContents::Saved& saved : contents.saved) kept -= saved.owned ? 0 : saved.bytes;
  const std::uint64_t free = most - std::min(kept, most);
  if (needed > free) {
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = lock.folder(),
                 .expected = bytes_text(needed) + " free for a new file",
                 .found = fmt::format("{} of {} beside {} conversations that have an owner", bytes_text(free),
                                      bytes_text(most), contents.leases.size()),
                 .remedy = "fewer owners, a larger `most_bytes` or to drop this one's old file first would do"});
  }
  drop_oldest(lock, contents, most - needed);
}

std::uint64_t next_epoch(const FolderLock& lock, const FolderContents& contents) {
  // Not synced: a machine that stops takes all owners with it, so that nobody is left to have an epoch twice.
  if (!contents.epoch) {
    const std::string first = lock.path(epoch_file(1));
    if (OpenFile(first, O_WRONLY | O_CREAT).get() < 0) fail_at(first, "written", errno);
    return 1;
  }
  const std::uint64_t next = *contents.epoch + 1;
  rename_file(lock.path(epoch_file(*contents.epoch)), lock.path(epoch_file(next)));
  return next;
}

}  // namespace lacake
