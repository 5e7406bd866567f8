// Every system call of an owner may be its last, and at each of them the bound holds: a process is stopped at every one
// in turn, looked at, and killed there.

#ifdef __linux__

#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>

#include "base/files.h"
#include "lacake/store.h"
#include "store/test_store.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytes = 1000;
const std::string kOld(300, 'o'), kNew(400, 'n'), kOther(500, 'x');

// What the process does: a save that has to drop the other conversation.
[[noreturn]] void save_traced(const std::string& folder) {
  ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  ::raise(SIGSTOP);
  {
    const Store store(folder, kMostBytes);
    auto lease = store.acquire("a").value();
    lease.save(kNew.size(), [](const std::string& path) { write_file(path, kNew); });
    // Acknowledged; seen from outside in a folder of its own.
    fs::create_directory(folder + ".saved");
  }
  ::_exit(0);
}

// Stops a process `n` times where it enters or leaves a system call, looks at the folder each time, and kills it at the
// last. False if it ended before.
bool run_and_kill(const std::string& folder, int n, std::uint64_t& most_seen, bool& may_trace) {
  const pid_t child = ::fork();
  if (child == 0) save_traced(folder);
  int status = 0;
  ::waitpid(child, &status, WUNTRACED);
  for (int i = 0; i < n && WIFSTOPPED(status); ++i) {
    may_trace = ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) == 0;
    if (!may_trace) break;
    ::waitpid(child, &status, 0);
    most_seen = std::max(most_seen, bytes_of_files(folder));
  }
  if (!WIFSTOPPED(status)) return false;
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return true;
}

TEST(StoreCrash, AtAnySystemCallLeavesTheOldFileOrTheNewOne) {
  int n_old = 0, n_new = 0;
  bool was_killed = true;
  for (int n = 1; was_killed; n += 2) {  // where it enters one; leaving it and entering the next is the same
    const TemporaryFolder temporary;
    const std::string folder = temporary.path("conversations");
    fs::create_directory(folder);
    write_file(folder + "/b.saved", kOther);
    write_file(folder + "/a.saved", kOld);
    std::uint64_t most_seen = 0;
    bool may_trace = true;
    was_killed = run_and_kill(folder, n, most_seen, may_trace);
    if (!may_trace) GTEST_SKIP() << "no process may be traced here";
    ASSERT_LE(most_seen, kMostBytes) << n;

    const Store store(folder, kMostBytes);
    ASSERT_EQ(bytes_of_files(folder), store.bytes()) << n;
    const auto lease = store.acquire("a");
    ASSERT_TRUE(lease) << n;
    const std::string content = read_file(lease->path().value());
    ASSERT_TRUE(content == kOld || content == kNew) << n;
    ASSERT_TRUE(content == kNew || !fs::exists(folder + ".saved")) << n;
    ++(content == kOld ? n_old : n_new);
  }
  EXPECT_GT(n_old, 0);
  EXPECT_GT(n_new, 1);  // killed after the rename, too
}

}  // namespace
}  // namespace lacake

#endif
