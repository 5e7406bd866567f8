#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "store/system.h"

namespace lacake {

// The right to change names in a store's folder and to count what is there: one thread of one process at a time. Held
// for a look at the folder and some changes of names, never while a file is written or synced.
class FolderLock {
 public:
  // Waits.
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  const std::string& folder() const { return folder_; }
  std::string path(const std::string& file) const { return folder_ + "/" + file; }

 private:
  std::string folder_;
  OpenFile file_;
};

// What a store's folder holds.
struct FolderContents {
  struct Saved {
    std::string name;
    std::uint64_t bytes = 0;
    std::chrono::system_clock::time_point last_use = {};
    bool owned = false;
  };
  // What an owner is writing: all that it reserved counts, whatever is there of it. With nothing reserved there may be
  // files that a failed save left.
  struct Writing {
    std::uint64_t reserved = 0;
    std::uint64_t bytes = 0;
    std::vector<std::string> paths;

    std::uint64_t counted() const { return reserved > 0 ? reserved : bytes; }
  };

  std::vector<Saved> saved;                                         // the least recently used first
  std::map<std::pair<std::string, std::uint64_t>, Writing> leases;  // of owners that live, by name and epoch
  std::optional<std::uint64_t> epoch;                               // the last one given
  std::uint64_t bytes = 0;                                          // of every file, and what is reserved

  bool is_owned(const std::string& name) const;
};

// Removes what owners that died have left, and counts the rest. Costs one stat() for each file that has bytes and one
// open() for each lease; reads none.
FolderContents contents_of(const FolderLock& lock);

// Drops what was used least recently and has no owner until no more than `most` bytes are there, if that can be.
void drop_oldest(const FolderLock& lock, FolderContents& contents, std::uint64_t most);

// The same until `needed` bytes more fit into `most`. Throws Error(kCapacity), and drops nothing, where they cannot.
void make_room(const FolderLock& lock, FolderContents& contents, std::uint64_t most, std::uint64_t needed);

// A number that the folder never gave before.
std::uint64_t next_epoch(const FolderLock& lock, const FolderContents& contents);

}  // namespace lacake
