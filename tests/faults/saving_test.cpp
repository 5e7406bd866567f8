// A conversation that is saved while the system fails it.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/files.h"
#include "engine/test_session.h"
#include "faults/faults.h"
#include "faults/power_cut.h"
#include "lacake/conversation.h"
#include "lacake/snapshot.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

using faults::Call;
using faults::Fault;

class Saving : public testing::Test {
 protected:
  Saving() {
    conversation_.ask({"user", "a question"});
    conversation_.save(path_);
    old_ = read_file(path_);
    conversation_.ask({"user", "and another one"});
    conversation_.save(path_);
    new_ = read_file(path_);
    next_ = next_logits(conversation_);
  }

  static ConversationOptions options() {
    ConversationOptions options{.session = with("tova", "12", "f16", PrefillMode::kExact, 100), .raw = true};
    options.generation.limits.answer = 4;
    return options;
  }

  // Of a conversation, which stays as it is.
  Logits next_logits(const Conversation& conversation) {
    const auto fork = loaded_.engine.fork(*conversation.session());
    fork->step(7);
    Logits all = logits_of(*fork);
    fork->prefill(random_tokens(loaded_.tiny, 3, 5));
    const Logits more = logits_of(*fork);
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }

  // Opens what is there: the bytes alone could be right by what nobody reads.
  void opens_as(const std::string& path, const Logits& next) {
    const Conversation opened(loaded_.model, loaded_.engine, options(), Snapshot(path));
    EXPECT_TRUE(same_bits(next_logits(opened), next));
  }

  struct Saved {
    std::string error;  // "": none
    std::vector<Call> calls;
  };
  // Over the old file.
  Saved save(const Fault& fault) {
    for (const std::string& name : files()) std::filesystem::remove(folder_.path(name));
    replace_durably(path_, old_);
    Saved saved;
    faults::watch(folder_.path(), fault);
    saved.error = refusal(Error::Kind::kInput, [&] { conversation_.save(path_); });
    saved.calls = faults::stop();
    return saved;
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.path("talk.kv");
  Loaded loaded_{small(), 1};
  Conversation conversation_{loaded_.model, loaded_.engine, options()};
  std::string old_, new_;
  Logits next_;
};

bool renamed(std::span<const Call> calls) {
  return std::any_of(calls.begin(), calls.end(), [](const Call& c) { return c.name == "rename" && c.error == 0; });
}

struct Failure {
  const char* name;
  Fault fault;
  bool harmless = false;  // the new file is written all the same
};
constexpr Failure kFailures[] = {
    {"no space", {.error = ENOSPC}},
    {"no space from there on", {.error = ENOSPC, .forever = true}},
    {"a disk's error", {.error = EIO}},
    {"a disk's errors from there on", {.error = EIO, .forever = true}},
    {"a folder that became read-only", {.error = EROFS, .forever = true}},
    {"a quota", {.error = EDQUOT}},
    {"a quota from there on", {.error = EDQUOT, .forever = true}},
    {"interrupted once", {.error = EINTR}, true},
    {"a short write", {}, true},
    {"short writes from there on", {.forever = true}, true},
};

TEST_F(Saving, AnyCallMayFail) {
  const std::size_t n_calls = save({}).calls.size();
  ASSERT_GT(n_calls, 20u);
  ASSERT_EQ(read_file(path_), new_);
  for (const Failure& failure : kFailures) {
    for (std::size_t call = 1; call <= n_calls; ++call) {
      Fault fault = failure.fault;
      fault.call = call;
      const Saved saved = save(fault);
      SCOPED_TRACE(std::string(failure.name) + " at call " + std::to_string(call) + ", " + saved.calls[call - 1].name);
      ASSERT_EQ(read_file(path_), renamed(saved.calls) ? new_ : old_);
      if (saved.error.empty() || failure.harmless) {
        ASSERT_EQ(saved.error, "");
        ASSERT_TRUE(renamed(saved.calls));
      } else {
        ASSERT_TRUE(saved.error.starts_with(path_ + ": cannot be written")) << saved.error;
        ASSERT_TRUE(saved.error.ends_with(std::strerror(fault.error))) << saved.error;
        ASSERT_EQ(saved.error.find('\n'), std::string::npos);
      }
      std::set<std::string> left = files();
      left.erase("talk.kv.tmp");
      ASSERT_EQ(left, std::set<std::string>{"talk.kv"});
      ASSERT_TRUE(same_bits(next_logits(conversation_), next_));
      conversation_.save(path_);
      ASSERT_EQ(read_file(path_), new_);
      ASSERT_EQ(files(), std::set<std::string>{"talk.kv"});
    }
  }
}

TEST_F(Saving, AFileSystemWithoutLocksIsWrittenToo) {
  const std::vector<Call> calls = save({}).calls;
  const auto flock = std::find_if(calls.begin(), calls.end(), [](const Call& c) { return c.name == "flock"; });
  for (const int error : {ENOSYS, ENOTSUP, ENOLCK}) {
    EXPECT_EQ(save({.call = (std::size_t)(flock - calls.begin()) + 1, .error = error}).error, "");
    EXPECT_EQ(read_file(path_), new_);
    EXPECT_EQ(files(), std::set<std::string>{"talk.kv"});
  }
}

TEST_F(Saving, SyncsTheFileBeforeItsNameAndTheFolderAfterIt) {
  std::vector<std::string> order;
  for (const Call& call : save({}).calls) {
    if (call.name == "close") continue;
    const std::string file = call.path == folder_.path() ? "folder" : call.path == path_ ? "file" : "beside";
    if (order.empty() || order.back() != call.name + " " + file) order.push_back(call.name + " " + file);
  }
  EXPECT_EQ(order, (std::vector<std::string>{"open beside", "flock beside", "ftruncate beside", "write beside",
                                             "fsync beside", "rename beside", "open folder", "fsync folder"}));
}

TEST_F(Saving, APowerCutLeavesTheOldFileOrTheNewOne) {
  const std::vector<Call> calls = save({}).calls;
  const std::string cut = folder_.path("cut.kv");
  std::size_t n_found = 0, n_whole = 0;
  faults::after_power_cuts(calls, path_, [&](const faults::Found& found) {
    if (HasFatalFailure()) return;
    ++n_found;
    if (found.renamed) {
      ASSERT_EQ(found.bytes, new_) << "after call " << found.after << ", " << calls[found.after - 1].name;
    }
    if (found.bytes == new_) {
      if (n_whole++ == 0) opens_as(folder_.file("cut.kv", found.bytes), next_);
      return;
    }
    const std::string line = refusal(Error::Kind::kInput, [&] { Snapshot(folder_.file("cut.kv", found.bytes)); });
    ASSERT_TRUE(line.starts_with(cut)) << "after call " << found.after << ": " << line;
  });
  EXPECT_GT(n_found, 500u);
  EXPECT_GT(n_whole, 3u);
}

// Of a child process that runs this: it is killed.
template <class Call>
void killed_in(const Call& call) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    call();
    ::_exit(0);
  }
  int status;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
}

TEST_F(Saving, KilledBeforeAnyCallLeavesTheOldFileOrTheNewOne) {
  const std::size_t n_calls = save({}).calls.size();
  std::size_t n_old = 0;
  for (std::size_t call = 1; call <= n_calls; ++call) {
    killed_in([&] { save({.call = call, .kills = true}); });
    const std::string bytes = read_file(path_);
    ASSERT_TRUE(bytes == old_ || bytes == new_) << "before call " << call;
    n_old += bytes == old_ ? 1 : 0;
    conversation_.save(path_);
    ASSERT_EQ(read_file(path_), new_);
    ASSERT_EQ(files(), std::set<std::string>{"talk.kv"});
  }
  EXPECT_EQ(n_calls - n_old, 4u);  // before the file and the folder are closed, and the folder opened and synced
}

// Moments of the process's own time: on a machine that is busy a child may not run at all for as long as one waits.
void kill_after(std::chrono::microseconds time) {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  timer_t timer;
  const itimerspec when{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = time.count() * 1000}};
  if (::timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) != 0 || ::timer_settime(timer, 0, &when, nullptr) != 0) {
    ::_exit(1);
  }
}

TEST_F(Saving, KilledAtAnyMomentLeavesTheOldFileOrTheNewOne) {
  replace_durably(path_, old_);
  Conversation before(loaded_.model, loaded_.engine, options(), Snapshot(path_));
  const Logits old_next = next_logits(before);
  std::mt19937 random(3);
  std::size_t n_old = 0, n_between = 0;
  for (int i = 0; i < 200; ++i) {
    const std::chrono::microseconds moment(500 + random() % 8000);
    killed_in([&] {
      kill_after(moment);
      for (;;) {
        faults::watch(folder_.path());  // no waiting for the disk
        conversation_.save(path_);
        before.save(path_);
      }
    });
    const std::string bytes = read_file(path_);
    ASSERT_TRUE(bytes == old_ || bytes == new_) << "kill " << i;
    opens_as(path_, bytes == old_ ? old_next : next_);
    n_old += bytes == old_ ? 1 : 0;
    std::set<std::string> left = files();
    n_between += left.erase("talk.kv.tmp");
    ASSERT_EQ(left, std::set<std::string>{"talk.kv"});
  }
  // Both were found, and often a save was under way.
  EXPECT_GT(n_old, 20u);
  EXPECT_LT(n_old, 180u);
  EXPECT_GT(n_between, 20u);
  conversation_.save(path_);
  EXPECT_EQ(read_file(path_), new_);
  EXPECT_EQ(files(), std::set<std::string>{"talk.kv"});
}

}  // namespace
}  // namespace lacake
