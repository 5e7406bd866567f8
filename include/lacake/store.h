#pragma once

// A folder of conversations that outlive their programs, within a bound in bytes.
//
//     const lacake::Store store("conversations", 10'000'000'000);
//     if (auto lease = store.acquire(id)) {  // until the lease goes, nobody else has this conversation
//       if (const auto path = lease->path()) read(*path);
//       ...
//       lease->save(n_bytes, [&](const std::string& path) { write(path); });
//     }
//
// A conversation is one file (a snapshot with its checkpoints, say), and a save puts a whole new one in its place. The
// store never looks into it, and finds everything again by names and sizes alone.
//
// The bound holds at every moment, also while files are written and if processes are killed: a save writes nothing
// before all its bytes are reserved. Room is made by dropping the conversations that were used least recently, never
// one that has an owner; where that is not enough the save is refused. What counts is the size of every file in the
// folder; blocks and folders of the file system do not. The store's own files are empty. Files that are not the store's
// are counted and left alone, so give it a folder of its own. Every program that uses a folder should give the same
// bound: each keeps its own.
//
// Any number of processes, and of threads in each, may use one folder. A Store may be used from any thread; a lease by
// one thread at a time. Calls wait for each other only while names are looked at and changed, never while a file is
// written. Opening, acquire(), save(), conversations() and bytes() look at every name of the folder, which costs 2 ms
// for a thousand conversations.
//
// When save() or drop() returns, what it did is on disk. After a machine has stopped, conversations that were dropped
// for room may be there again; opening the folder drops what is over the bound. All calls throw Error(kInput) that
// names the path where the system refuses (a full disk, a folder that may not be written); the old file is then still
// there.
//
// On a local file system a lease ends with its process at the latest. On NFS a server may forget locks while their
// owners live. Then a conversation can get a second owner, and its epoch keeps the first from saving over what that one
// has; but what the first is just writing counts no longer, so that the bound may be exceeded, and its path() is the
// file of the second. Last uses are compared as the clocks of the machines gave them.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lacake {

struct StoredConversation {
  std::string id;
  std::uint64_t bytes = 0;
  std::chrono::system_clock::time_point last_use = {};  // acquired, saved or given back
  bool owned = false;                                   // somebody has its lease: it is not dropped
};

class Store {
 public:
  class Lease;

  // Any bytes are an id, which may come from a client: it names a file of the folder and never one outside.
  static constexpr std::size_t kLongestId = 128;

  // Makes the folder, readable by nobody else, if it is not there; removes what processes that died have left half
  // written; drops what is over the bound and has no owner.
  Store(std::string folder, std::uint64_t most_bytes);

  // Nothing while another process or another lease of this one has the conversation. It may be new: then there is no
  // file. Throws Error(kUsage) if the id is empty or longer than kLongestId.
  std::optional<Lease> acquire(std::string_view id) const;

  // Those that have a file, in the order in which they would be dropped.
  std::vector<StoredConversation> conversations() const;

  // What counts now: every file of the folder, and what is reserved for those that are being written.
  std::uint64_t bytes() const;

  std::uint64_t most_bytes() const { return most_bytes_; }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  std::uint64_t most_bytes_;
};

// The right to one conversation, given back when this goes. It needs no renewal: the system takes it back when the
// process ends, however it ends. It stays with the process that acquired it; a fork has none.
class Store::Lease {
 public:
  // Writes a whole file to a path where there is none. Whatever it makes meanwhile has names that begin with this path.
  using Write = std::function<void(const std::string& path)>;

  ~Lease();
  Lease(Lease&&) noexcept;
  Lease& operator=(Lease&&) noexcept;

  const std::string& id() const;

  // Grows with every lease that is acquired in the folder.
  std::uint64_t epoch() const;

  // The file of the last save, none if there is none or it was dropped. It stays until save() or drop(); after the
  // lease it may go at any time, so read it before.
  std::optional<std::string> path() const;

  // A new file of exactly n_bytes. The old one stays until the new one is in its place, and both count until then.
  //
  // Throws Error(kCapacity), and neither drops nor writes anything, where it does not fit beside what has an owner.
  // Throws Error(kState) if another has become the owner meanwhile, Error(kInput) if the file was not made or is of
  // another size, and what `write` throws: nothing of the new file stays then.
  void save(std::uint64_t n_bytes, const Write& write);

  // Removes the file. Throws Error(kState) as save() does.
  void drop();

 private:
  friend class Store;
  struct State;
  explicit Lease(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace lacake
