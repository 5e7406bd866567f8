// A store under many processes that are killed at random moments, looked at from outside while all of them stand still.
// Each conversation's file says whose it is and the how many-th, and ends in a checksum, so that torn files, lost files
// and two owners are found.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <new>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/files.h"
#include "lacake/error.h"
#include "lacake/store.h"
#include "store/test_store.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

constexpr int kOperations = 1000, kProcesses = 8, kConversations = 40;
constexpr int kMostBusy = 100 * kOperations;  // more are a lease that nobody gives back
constexpr int kMostProcesses = 10'000;        // those that take the places of killed ones too
constexpr std::uint64_t kMostBytesOfFile = 20'000;

std::uint64_t checksum(std::string_view bytes) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const char byte : bytes) hash = (hash ^ (unsigned char)byte) * 1099511628211u;
  return hash;
}

std::string content(int conversation, std::uint64_t count, std::size_t n_bytes) {
  std::string bytes = fmt::format("{} {}\n", conversation, count);
  std::minstd_rand random((unsigned)(count * 100 + (std::uint64_t)conversation));
  while (bytes.size() + 17 < n_bytes) bytes += (char)('a' + random() % 26);
  return bytes + fmt::format("{:016x}\n", checksum(bytes));
}

// The count of a whole file; none if it is torn or another's.
std::optional<std::uint64_t> count_of(int conversation, const std::string& bytes) {
  int owner = -1;
  unsigned long long count = 0;
  if (bytes.size() < 17 || std::sscanf(bytes.c_str(), "%d %llu\n", &owner, &count) != 2) return std::nullopt;
  const std::string_view text = std::string_view(bytes).substr(0, bytes.size() - 17);
  if (owner != conversation || bytes.substr(text.size()) != fmt::format("{:016x}\n", checksum(text)))
    return std::nullopt;
  return count;
}

std::string id_of(int conversation) { return fmt::format("{}hat {}", conversation % 2 == 0 ? 'C' : 'c', conversation); }

// What the processes tell each other and the test, in memory that outlives each of them.
struct Board {
  enum State { kAbsent, kUnknown, kSaved };
  struct Conversation {
    std::atomic<int> owner = 0;            // a process's number
    std::atomic<int> state = kAbsent;      // what must be found
    std::atomic<std::uint64_t> begun = 0;  // saves
    std::atomic<std::uint64_t> acknowledged = 0;
  };
  Conversation conversations[kConversations];
  std::atomic<bool> killed[kMostProcesses] = {};
  std::atomic<bool> writing[kMostProcesses] = {};
  std::atomic<int> operations = 0, saves = 0, drops = 0, left_out = 0, refused = 0, busy = 0;
  std::atomic<int> failures = 0;
  char failure[1000] = {};

  void fail(const std::string& what) {
    if (failures++ == 0) (void)std::snprintf(failure, sizeof failure, "%s", what.c_str());
  }
};

class SharedBoard {
 public:
  SharedBoard() {
    void* memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("no shared memory");
    board_ = new (memory) Board;
  }
  ~SharedBoard() { ::munmap(board_, sizeof(Board)); }
  SharedBoard(const SharedBoard&) = delete;
  SharedBoard& operator=(const SharedBoard&) = delete;
  Board* operator->() const { return board_; }
  Board& operator*() const { return *board_; }

 private:
  Board* board_;
};

// A lease, and on the board that this process has it.
class Owned {
 public:
  Owned(Board& board, int process, int conversation, Store::Lease lease)
      : board_(board), process_(process), conversation_(conversation), lease_(std::move(lease)) {
    const int before = mine().owner.exchange(process);
    if (before != 0 && !board.killed[before]) fail("has two owners");
  }
  ~Owned() {
    int owner = process_;
    if (!mine().owner.compare_exchange_strong(owner, 0)) fail("was taken from its owner");
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  Board::Conversation& mine() const { return board_.conversations[conversation_]; }
  void fail(const char* what) const { board_.fail(fmt::format("conversation {} {}", conversation_, what)); }

  // `may_be_left_out`: the bound is tight.
  void check(bool may_be_left_out) const {
    const auto path = lease_.path();
    if (!path) {
      if (mine().state != Board::kSaved) return;
      if (!may_be_left_out) fail("is lost");
      ++board_.left_out;
      mine().state = Board::kAbsent;
      return;
    }
    const auto count = count_of(conversation_, read_file(*path));
    if (mine().state == Board::kAbsent) fail("came back");
    if (!count) return fail("is torn");
    if (*count < mine().acknowledged) fail("lost what was acknowledged");
    if (*count > mine().begun) fail("has what nobody wrote");
  }

  void save(std::mt19937& random) {
    const int before = mine().state;
    if (before == Board::kAbsent) mine().state = Board::kUnknown;
    const std::uint64_t count = ++mine().begun;
    const std::string bytes = content(conversation_, count, random() % kMostBytesOfFile);
    try {
      lease_.save(bytes.size(), [&](const std::string& path) { write_slowly(path, bytes, random); });
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::kCapacity) throw;
      ++board_.refused;
      mine().state = before;
      return;
    }
    if (mine().acknowledged.exchange(count) >= count) fail("was saved by two owners");
    mine().state = Board::kSaved;
    ++board_.saves;
  }

  void drop() {
    mine().state = Board::kUnknown;
    lease_.drop();
    mine().state = Board::kAbsent;
    ++board_.drops;
  }

 private:
  // In pieces, so that many a process is killed between two of them; and beside its place first, as snapshots are.
  void write_slowly(const std::string& path, const std::string& bytes, std::mt19937& random) const {
    const std::string beside = path + ".tmp";
    board_.writing[process_] = true;
    const int file = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) throw std::runtime_error("what is to be written is already there");
    for (std::size_t done = 0; done < bytes.size(); done += 4096) {
      if (write_descriptor(file, std::string_view(bytes).substr(done, 4096)) != 0) fail("cannot be written");
      ::usleep((useconds_t)(random() % 300));
    }
    ::close(file);
    if (std::rename(beside.c_str(), path.c_str()) != 0) fail("cannot be renamed");
    board_.writing[process_] = false;
  }

  Board& board_;
  int process_;
  int conversation_;
  Store::Lease lease_;
};

// One process: acquires, reads, saves and drops, and keeps each lease while it works with the next one.
void operate(Board& board, int process, const std::string& folder, std::uint64_t most_bytes, bool is_tight) {
  std::mt19937 random((unsigned)process);
  const Store store(folder, most_bytes);
  std::optional<Owned> held[2];
  for (int turn = 0; board.operations < kOperations && board.busy < kMostBusy; turn = 1 - turn) {
    std::optional<Owned>& now = held[turn];
    const std::optional<Owned>& before = held[1 - turn];
    now.reset();
    const int conversation = (int)(random() % kConversations);
    auto lease = store.acquire(id_of(conversation));
    if (!lease) {
      ++board.busy;
      continue;
    }
    ++board.operations;
    now.emplace(board, process, conversation, std::move(*lease));
    now->check(is_tight);
    const unsigned what = random() % 10;
    if (what < 7) now->save(random);
    if (what == 7) now->drop();
    now->check(false);
    if (before) before->check(false);  // what has an owner stays
  }
}

class Processes {
 public:
  Processes(Board& board, std::string folder, std::uint64_t most_bytes, bool is_tight)
      : board_(board), folder_(std::move(folder)), most_bytes_(most_bytes), is_tight_(is_tight) {
    for (int i = 0; i < kProcesses; ++i) start();
  }
  ~Processes() {
    while (!running_.empty()) kill(running_.size() - 1);
  }
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  std::size_t n_running() const { return running_.size(); }
  int n_started() const { return n_started_; }
  int n_killed_while_writing() const { return n_killed_while_writing_; }

  void start() {
    const int number = ++n_started_;
    if (number >= kMostProcesses) throw std::runtime_error("too many processes");
    const pid_t child = ::fork();
    if (child < 0) throw std::runtime_error("no process");
    if (child > 0) return running_.push_back({number, child});
#ifdef __linux__
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // none is left if the test itself is killed
#endif
    try {
      operate(board_, number, folder_, most_bytes_, is_tight_);
    } catch (const std::exception& error) {
      board_.fail(error.what());
    }
    ::_exit(0);
  }

  // Stops all and calls `look`, then lets them go on.
  template <class Look>
  void stand_still(const Look& look) {
    for (const Process& process : running_) ::kill(process.id, SIGSTOP);
    std::erase_if(running_, [](const Process& process) {
      int status = 0;
      return ::waitpid(process.id, &status, WUNTRACED) != process.id || !WIFSTOPPED(status);
    });
    look();
    for (const Process& process : running_) ::kill(process.id, SIGCONT);
  }

  void kill(std::size_t i) {
    const Process process = running_[i];
    board_.killed[process.number] = true;
    ::kill(process.id, SIGKILL);
    int status = 0;
    ::waitpid(process.id, &status, 0);
    if (board_.writing[process.number]) ++n_killed_while_writing_;
    running_.erase(running_.begin() + (std::ptrdiff_t)i);
  }

 private:
  struct Process {
    int number;
    pid_t id;
  };
  Board& board_;
  std::string folder_;
  std::uint64_t most_bytes_;
  bool is_tight_;
  std::vector<Process> running_;
  int n_started_ = 0, n_killed_while_writing_ = 0;
};

class StoreProcesses : public testing::Test {
 protected:
  // Returns the most bytes that were ever there.
  std::uint64_t run(std::uint64_t most_bytes, bool is_tight) {
    std::uint64_t most_seen = 0;
    int n_looks = 0;
    std::mt19937 random(1);
    Processes processes(*board_, folder_.path(), most_bytes, is_tight);
    while (processes.n_running() > 0) {
      ::usleep((useconds_t)(random() % 4000));
      processes.stand_still([&] { most_seen = std::max(most_seen, bytes_of_files(folder_.path())); });
      ++n_looks;
      if (processes.n_running() == 0 || board_->operations >= kOperations || board_->busy >= kMostBusy) continue;
      processes.kill(random() % processes.n_running());
      processes.start();
    }
    EXPECT_EQ(board_->failures, 0) << board_->failure;
    EXPECT_GE(board_->operations, kOperations);
    EXPECT_LE(most_seen, most_bytes);
    EXPECT_GT(processes.n_killed_while_writing(), 0);
    EXPECT_GT(board_->saves, 0);
    EXPECT_GT(board_->drops, 0);
    RecordProperty("looks", n_looks);
    RecordProperty("killed", processes.n_started() - kProcesses);
    RecordProperty("killed_while_writing", processes.n_killed_while_writing());
    RecordProperty("saves", board_->saves);
    RecordProperty("drops", board_->drops);
    RecordProperty("left_out", board_->left_out);
    RecordProperty("refused", board_->refused);
    RecordProperty("busy", board_->busy);
    check_what_remains(most_bytes, is_tight);
    return most_seen;
  }

  // Nothing is owned, and nothing is there but whole conversations and what the store locks.
  void check_what_remains(std::uint64_t most_bytes, bool is_tight) {
    const Store store(folder_.path(), most_bytes);
    std::uint64_t bytes = 0;
    std::size_t n_files = 0;
    for (const StoredConversation& conversation : store.conversations()) {
      EXPECT_FALSE(conversation.owned) << conversation.id;
      bytes += conversation.bytes;
    }
    EXPECT_EQ(store.bytes(), bytes);
    EXPECT_EQ(bytes_of_files(folder_.path()), bytes);
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) n_files += entry.is_regular_file();
    EXPECT_EQ(n_files, store.conversations().size() + 2);
    for (int i = 0; i < kConversations; ++i) {
      auto lease = store.acquire(id_of(i));
      ASSERT_TRUE(lease) << i;
      board_->conversations[i].owner = 0;  // of one that was killed
      Owned(*board_, 1, i, std::move(*lease)).check(is_tight);
    }
    EXPECT_EQ(board_->failures, 0) << board_->failure;
  }

  TemporaryFolder folder_;
  SharedBoard board_;
};

TEST_F(StoreProcesses, LoseNothingThatWasSavedWhereThereIsRoomForAll) {
  run(2'000'000, false);
  EXPECT_EQ(board_->refused, 0);
  EXPECT_EQ(board_->left_out, 0);
}

TEST_F(StoreProcesses, NeverExceedATightBoundAndAgreeOnOwners) {
  const std::uint64_t most_seen = run(120'000, true);
  EXPECT_GT(most_seen, 60'000u);
  EXPECT_GT(board_->left_out, 0);
}

}  // namespace
}  // namespace lacake
