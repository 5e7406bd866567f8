#include "lacake/store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "lacake/bytes.h"
#include "lacake/error.h"
#include "store/folder.h"
#include "store/names.h"
#include "store/system.h"

namespace lacake {

struct Store::Lease::State {
  // REQUIRES the folder's lock, so that nobody sees the lease's file before it is locked.
  State(const Store& store, std::string_view id, std::string name, std::uint64_t epoch);

  std::string path(const std::string& base) const { return folder + "/" + base; }
  std::string saved() const { return path(saved_file(name)); }
  std::string lease() const { return path(lease_file(name, epoch, reserved)); }

  void end() noexcept;
  void require_ownership(const FolderLock& lock) const;
  void reserve(const FolderLock& lock, std::uint64_t bytes);
  void remove_new(const FolderLock& lock, FolderContents& contents);
  void put_in_place(std::uint64_t n_bytes, const std::string& written);

  std::string folder;
  std::uint64_t most_bytes;
  std::string id;
  std::string name;
  std::uint64_t epoch;
  std::uint64_t reserved = 0;
  pid_t process = ::getpid();
  OpenFile file;  // the lease's, locked
};

Store::Lease::State::State(const Store& store, std::string_view its_id, std::string its_name, std::uint64_t its_epoch)
    : folder(store.folder()),
      most_bytes(store.most_bytes()),
      id(its_id),
      name(std::move(its_name)),
      epoch(its_epoch),
      file(lease(), O_RDWR | O_CREAT | O_EXCL) {
  if (file.get() < 0) fail_at(lease(), "made", errno);
  if (!try_lock(file, lease())) fail_at(lease(), "locked", EWOULDBLOCK);
}

void Store::Lease::State::end() noexcept {
  // What a fork has is a copy: the lease is its parent's.
  if (process != ::getpid()) return;
  try {
    const FolderLock lock(folder);
    // Without its file another became the owner, and it is that one's use which counts.
    if (is_there(lease())) {
      if (is_there(saved())) set_modified_now(saved());
      remove_file(lease());
    }
  } catch (const std::exception&) {
    // The file stays, and is as good as gone once it is unlocked.
  }
  file.unlock();
}

void Store::Lease::State::require_ownership(const FolderLock&) const {
  if (process != ::getpid()) {
    throw Error({.kind = Error::Kind::kState, .subject = saved(), .found = "its lease is another process's"});
  }
  if (is_there(lease())) return;
  throw Error({.kind = Error::Kind::kState,
               .subject = saved(),
               .found = fmt::format("the lease of epoch {} is over, another may be the owner", epoch)});
}

void Store::Lease::State::reserve(const FolderLock& lock, std::uint64_t bytes) {
  rename_file(lease(), lock.path(lease_file(name, epoch, bytes)));
  reserved = bytes;
}

// What a save that failed has left, if anything.
void Store::Lease::State::remove_new(const FolderLock& lock, FolderContents& contents) {
  FolderContents::Writing& writing = contents.leases[{name, epoch}];
  for (const std::string& path : writing.paths) remove_file(path);
  if (reserved > 0) reserve(lock, 0);
  contents.bytes -= writing.counted();
  writing = {};
}

void Store::Lease::State::put_in_place(std::uint64_t n_bytes, const std::string& written) {
  const std::optional<std::uint64_t> found = file_bytes(written);
  if (found != n_bytes) {
    throw Error({.subject = written,
                 .expected = fmt::format("a new file of {} bytes", n_bytes),
                 .found = found ? fmt::format("{}", *found) : "none"});
  }
  sync_file(written);
  set_modified_now(written);  // nothing is lost if a machine stops before this is on disk
  const FolderLock lock(folder);
  require_ownership(lock);
  rename_file(written, saved());
  reserve(lock, 0);
}

Store::Lease::Lease(std::unique_ptr<State> state) : state_(std::move(state)) {}
Store::Lease::Lease(Lease&&) noexcept = default;

Store::Lease& Store::Lease::operator=(Lease&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

Store::Lease::~Lease() {
  if (state_) state_->end();
}

const std::string& Store::Lease::id() const { return state_->id; }
std::uint64_t Store::Lease::epoch() const { return state_->epoch; }

std::optional<std::string> Store::Lease::path() const {
  const std::string path = state_->saved();
  if (!is_there(path)) return std::nullopt;
  return path;
}

void Store::Lease::save(std::uint64_t n_bytes, const Write& write) {
  State& s = *state_;
  if (n_bytes > s.most_bytes) {
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = "most_bytes",
                 .expected = bytes_text(n_bytes) + " or more for this conversation",
                 .found = bytes_text(s.most_bytes)});
  }
  {
    const FolderLock lock(s.folder);
    s.require_ownership(lock);
    FolderContents contents = contents_of(lock);
    s.remove_new(lock, contents);
    make_room(lock, contents, s.most_bytes, n_bytes);
    s.reserve(lock, n_bytes);
  }
  const std::string written = s.path(new_file(s.name, s.epoch));
  try {
    write(written);
    s.put_in_place(n_bytes, written);
  } catch (...) {
    try {
      const FolderLock lock(s.folder);
      FolderContents contents = contents_of(lock);
      s.remove_new(lock, contents);
    } catch (const std::exception&) {
      // The first failure is what matters. What is still there counts, and goes with the next save or with the lease.
    }
    throw;
  }
  sync_folder(s.folder);
}

void Store::Lease::drop() {
  {
    const FolderLock lock(state_->folder);
    state_->require_ownership(lock);
    remove_file(state_->saved());
  }
  sync_folder(state_->folder);
}

Store::Store(std::string folder, std::uint64_t most_bytes) : folder_(std::move(folder)), most_bytes_(most_bytes) {
  make_private_folder(folder_);
  const FolderLock lock(folder_);
  FolderContents contents = contents_of(lock);
  drop_oldest(lock, contents, most_bytes_);
}

std::optional<Store::Lease> Store::acquire(std::string_view id) const {
  const std::string name = name_of_id(id);
  const FolderLock lock(folder_);
  const FolderContents contents = contents_of(lock);
  if (contents.is_owned(name)) return std::nullopt;
  auto state = std::make_unique<Lease::State>(*this, id, name, next_epoch(lock, contents));
  if (is_there(state->saved())) set_modified_now(state->saved());
  return Lease(std::move(state));
}

std::vector<StoredConversation> Store::conversations() const {
  const FolderLock lock(folder_);
  std::vector<StoredConversation> conversations;
  for (const FolderContents::Saved& saved : contents_of(lock).saved) {
    conversations.push_back({*id_of_name(saved.name), saved.bytes, saved.last_use, saved.owned});
  }
  return conversations;
}

std::uint64_t Store::bytes() const {
  const FolderLock lock(folder_);
  return contents_of(lock).bytes;
}

}  // namespace lacake
